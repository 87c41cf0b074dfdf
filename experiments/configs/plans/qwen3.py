"""Shapes of Qwen3, and what the planned configs share.

Qwen Team 2025, "Qwen3 Technical Report", arXiv:2505.09388; the widths are those
of the published config.json files.
"""

from typing import Any

from ml_collections import ConfigDict

from jalign.configs import base

VOCABULARY = 151_936
SHAPES: dict[str, dict[str, Any]] = {
  "0.6B": dict(
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    tie_word_embeddings=True,
  ),
  "1.7B": dict(
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    tie_word_embeddings=True,
  ),
  "8B": dict(
    hidden_size=4096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    tie_word_embeddings=False,
  ),
  "32B": dict(
    hidden_size=5120,
    intermediate_size=25_600,
    num_hidden_layers=64,
    num_attention_heads=64,
    tie_word_embeddings=False,
  ),
}


def config(size: str) -> ConfigDict:
  """Returns a config of one stage whose model has a published shape.

  Products are in bfloat16, parameters and moments in float32.

  Args:
    size: a key of SHAPES.
  """
  c = base.get_config()
  c.stages = ("align",)
  c.data.template = "tokenizer"
  # A run takes the checkpoint's tokenizer, a plan only this number.
  c.tokenizer.vocab_size = VOCABULARY
  c.model.update(
    num_key_value_heads=8,
    head_dim=128,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    qk_norm=True,
    model_type="qwen3",
    dtype="bfloat16",
    param_dtype="float32",
    **SHAPES[size],
  )
  c.steps = 1000
  c.save_every = 100
  c.optimizer.learning_rate = 5e-7
  c.optimizer.warmup_steps = 10
  return c


def dpo(size: str, pairs: int, tokens: int = 2048) -> ConfigDict:
  """Returns a config of DPO on pairs of long responses.

  Args:
    size: a key of SHAPES.
    pairs: pairs of an update.
    tokens: the length that every response is padded to, its prompt included.
  """
  c = config(size)
  c.title = f"DPO of Qwen3 {size}"
  c.loss = base.loss("dpo")
  c.batch_size = pairs
  c.data.max_prompt_tokens = tokens // 2
  c.data.max_response_tokens = tokens // 2
  c.data.buckets = (tokens,)
  return c


def online(
  size: str, algorithm: str, prompts: int, prompt_tokens: int, new_tokens: int
) -> ConfigDict:
  """Returns a config of an algorithm that trains on judged samples.

  Args:
    size: a key of SHAPES.
    algorithm: a row of jalign.online.ALGORITHMS.
    prompts: prompts of a step, each of which is answered twice.
    prompt_tokens: the most tokens of a prompt.
    new_tokens: the most tokens of a response.
  """
  c = config(size)
  c.title = f"{algorithm} of Qwen3 {size}"
  c.algorithm = algorithm
  c.loss = ConfigDict(dict(beta=0.1) if "dpo" in algorithm else dict(tau=0.1))
  c.annotator.function = "jalign.configs.data.demo_reward:reward"
  c.batch_size = prompts
  c.data.max_prompt_tokens = prompt_tokens
  c.max_new_tokens = c.sample.max_new_tokens = new_tokens
  return c
