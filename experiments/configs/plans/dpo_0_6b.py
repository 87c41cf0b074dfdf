"""DPO of Qwen3 0.6B: 8 pairs of 2,048 tokens.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign plan --config=experiments/configs/plans/dpo_0_6b.py \
    --topology=h200:8 --mesh=1x8x1
  jalign train --config=experiments/configs/plans/dpo_0_6b.py \
    --workdir=runs/dpo_0_6b --config.init_from=Qwen/Qwen3-0.6B \
    --config.data.path=FILE.jsonl

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.dpo("0.6B", pairs=8)
  c.mesh.fsdp = 8
  return c
