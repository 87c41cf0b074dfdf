"""The configs that jalign ships: `jalign train --config=dpo` runs dpo.py.

`experiments/configs` of the repository and `jalign.configs` are one folder. A
copy of a file of it runs from anywhere: `--config=my_dpo.py`.
"""
