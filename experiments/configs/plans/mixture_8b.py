"""IPO-MD of Qwen3 8B: 64 responses drawn from a mixture of two models.

Calandriello et al. 2024, "Human Alignment of Large Language Models through
Online Preference Optimisation", arXiv:2403.08635.

  jalign plan --config=experiments/configs/plans/mixture_8b.py \
    --topology=v5e:4x4 --mesh=1x4x4

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.online(
    "8B", "ipo_md", prompts=32, prompt_tokens=256, new_tokens=256
  )
  c.mesh.fsdp = 4
  c.mesh.tensor = 4
  return c
