"""DPO of Qwen3 1.7B: 32 pairs of 2,048 tokens.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign plan --config=experiments/configs/plans/dpo_1_7b.py \
    --topology=v5e:4x4 --mesh=1x16x1
  jalign train --config=experiments/configs/plans/dpo_1_7b.py \
    --workdir=runs/dpo_1_7b --config.init_from=Qwen/Qwen3-1.7B \
    --config.data.path=FILE.jsonl

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.dpo("1.7B", pairs=32)
  c.mesh.fsdp = 16
  return c
