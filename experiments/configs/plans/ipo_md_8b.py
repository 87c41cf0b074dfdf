"""IPO-MD of Qwen3 8B: 1,024 responses of 1,024 tokens a step.

Calandriello et al. 2024, "Human Alignment of Large Language Models through
Online Preference Optimisation", arXiv:2403.08635.

  jalign plan --config=experiments/configs/plans/ipo_md_8b.py \
    --topology=v5e:16x16 --mesh=1x256x1

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.online(
    "8B", "ipo_md", prompts=512, prompt_tokens=512, new_tokens=1024
  )
  c.mesh.fsdp = 256
  # A whole copy of both models in bfloat16 would need 30 GB on each device.
  c.mesh.decode_tensor = 4
  return c
