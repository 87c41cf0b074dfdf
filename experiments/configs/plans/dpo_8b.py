"""DPO of Qwen3 8B: 64 pairs of 2,048 tokens.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign plan --config=experiments/configs/plans/dpo_8b.py \
    --topology=v5e:8x8 --mesh=1x64x1
  jalign train --config=experiments/configs/plans/dpo_8b.py \
    --workdir=runs/dpo_8b --config.init_from=Qwen/Qwen3-8B \
    --config.data.path=FILE.jsonl

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.dpo("8B", pairs=64)
  c.mesh.fsdp = 64
  return c
