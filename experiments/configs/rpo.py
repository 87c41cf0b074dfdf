"""RPO: DPO plus the likelihood of the chosen response. A preset, not code.

Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF",
arXiv:2405.16436; the authors' code weighs the likelihood per token by 0.2.

  jalign train --config=experiments/configs/rpo.py \
    --config.data.path=FILE.jsonl --workdir=runs/rpo

Cost: as dpo.py.
Expect: the chosen log-ratio stays nearer to zero than under dpo.py.
"""

from ml_collections import ConfigDict

from experiments.configs import dpo


def get_config() -> ConfigDict:
  """Returns the config."""
  c = dpo.get_config()
  c.title = "RPO on preference pairs"
  c.loss = ConfigDict(
    dict(
      terms=(
        dict(name="dpo", weight=1.0, beta=0.1),
        dict(name="sft_avg", weight=0.2, on="chosen"),
      )
    )
  )
  return c
