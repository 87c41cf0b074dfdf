"""DPO of Qwen3 32B: 64 pairs of 2,048 tokens.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign plan --config=experiments/configs/plans/dpo_32b.py \
    --topology=v5p:4x4x4 --mesh=1x16x4
  jalign train --config=experiments/configs/plans/dpo_32b.py \
    --workdir=runs/dpo_32b --config.init_from=Qwen/Qwen3-32B \
    --config.data.path=FILE.jsonl

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.dpo("32B", pairs=64)
  c.mesh.fsdp = 16
  c.mesh.tensor = 4
  return c
