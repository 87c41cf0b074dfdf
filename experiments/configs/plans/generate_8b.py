"""Online DPO of Qwen3 8B: 64 responses drawn from the policy.

Guo et al. 2024, "Direct Language Model Alignment from Online AI Feedback",
arXiv:2402.04792.

  jalign plan --config=experiments/configs/plans/generate_8b.py \
    --topology=v5e:4x4 --mesh=1x4x4

The model has been compiled at this size, not trained: see the page Scale.
"""

from ml_collections import ConfigDict

from jalign.configs.plans import qwen3


def get_config() -> ConfigDict:
  """Returns the config."""
  c = qwen3.online(
    "8B", "online_dpo", prompts=32, prompt_tokens=512, new_tokens=512
  )
  c.mesh.fsdp = 4
  c.mesh.tensor = 4
  return c
