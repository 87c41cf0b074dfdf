"""The benchmarks' models, jalign's and Hugging Face's, of equal weights."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.decode import generate, sampler
from jalign.models import ModelConfig, transformer

# Qwen3's shape with random weights and a tied head: 25 M, 71 M and 125 M. The
# rope_theta is Qwen3's, because Tunix 0.1.7 uses that one whatever it is given.
_SMALL = dict(
  rope_theta=1e6,
  hidden_size=384,
  intermediate_size=1024,
  num_hidden_layers=8,
  num_attention_heads=6,
  num_key_value_heads=2,
  head_dim=64,
  qk_norm=True,
)
_MEDIUM = _SMALL | dict(
  hidden_size=768,
  intermediate_size=2048,
  num_hidden_layers=16,
  num_attention_heads=12,
  num_key_value_heads=4,
)
# Qwen3 itself, for GPUs: heads of 128, and all 152k tokens.
_LARGE = dict(
  vocab_size=151_936,
  num_hidden_layers=28,
  num_attention_heads=16,
  num_key_value_heads=8,
  head_dim=128,
  qk_norm=True,
  rope_theta=1e6,
)
SIZES = {
  "0.6b": ModelConfig(hidden_size=1024, intermediate_size=3072, **_LARGE),
  "1.7b": ModelConfig(hidden_size=2048, intermediate_size=6144, **_LARGE),
  "8b": ModelConfig(
    hidden_size=4096,
    intermediate_size=12_288,
    tie_word_embeddings=False,
    **_LARGE | dict(num_hidden_layers=36, num_attention_heads=32),
  ),
  "s": ModelConfig(vocab_size=32_000, **_SMALL),
  "s152k": ModelConfig(vocab_size=151_936, **_SMALL),
  "m": ModelConfig(vocab_size=32_000, **_MEDIUM),
  "m152k": ModelConfig(vocab_size=151_936, **_MEDIUM),
  "tiny": ModelConfig(
    vocab_size=256,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    qk_norm=True,
  ),
}


def ours(size: str, dtype: str, seed: int = 0, **changes: Any):
  """(config, model, params) of a size in `SIZES`, with random weights."""
  config = dataclasses.replace(
    SIZES[size], dtype=dtype, param_dtype=dtype, **changes
  )
  model = transformer(config)
  return config, model, jax.jit(model.init)(jax.random.key(seed))


def random_prompts(config, batch, width):
  """[batch, width] random tokens of a config's vocabulary."""
  shape = batch, width
  return jax.random.randint(jax.random.key(1), shape, 1, config.vocab_size)


def our_run(model, params, prompts, new, draw=None):
  """The function of jalign's `generate` that is timed."""
  batch, width = prompts.shape
  lengths = jnp.full(batch, width)
  keys = jax.random.split(jax.random.key(2), batch)
  return lambda: generate(
    model,
    params,
    prompts,
    lengths,
    keys,
    max_new_tokens=new,
    stop_ids=(),
    draw=draw or sampler(),
  )


def hf_model(config: ModelConfig):
  """A `Qwen3ForCausalLM` of the config's shape, with random weights."""
  from transformers import Qwen3Config, Qwen3ForCausalLM

  made = Qwen3Config(
    vocab_size=config.vocab_size,
    hidden_size=config.hidden_size,
    intermediate_size=config.intermediate_size,
    num_hidden_layers=config.num_hidden_layers,
    num_attention_heads=config.num_attention_heads,
    num_key_value_heads=config.num_key_value_heads,
    head_dim=config.head_dim,
    rms_norm_eps=config.rms_norm_eps,
    rope_theta=config.rope_theta,
    rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
    tie_word_embeddings=config.tie_word_embeddings,
    max_position_embeddings=4096,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
  )
  return Qwen3ForCausalLM(made)


def theirs(config: ModelConfig, params: Any):
  """A `Qwen3ForCausalLM` with the given weights; None without PyTorch."""
  try:
    import torch
  except ImportError:
    return None
  torch.set_num_threads(os.cpu_count() or 1)
  model = hf_model(config).to(getattr(torch, config.dtype)).eval()
  state = {"model.embed_tokens.weight": params["embed"]}
  state["model.norm.weight"] = params["norm"]
  blocks = params["blocks"]
  width = config.hidden_size
  for i in range(config.num_hidden_layers):
    p = {name: np.asarray(x[i], np.float32) for name, x in blocks.items()}
    flat = {
      "self_attn.q_proj": p["wq"].reshape(width, -1).T,
      "self_attn.k_proj": p["wk"].reshape(width, -1).T,
      "self_attn.v_proj": p["wv"].reshape(width, -1).T,
      "self_attn.o_proj": p["wo"].reshape(-1, width).T,
      "self_attn.q_norm": p["q_norm"],
      "self_attn.k_norm": p["k_norm"],
      "input_layernorm": p["attn_norm"],
      "post_attention_layernorm": p["mlp_norm"],
      "mlp.gate_proj": p["gate"].T,
      "mlp.up_proj": p["up"].T,
      "mlp.down_proj": p["down"].T,
    }
    for name, value in flat.items():
      state[f"model.layers.{i}.{name}.weight"] = value
  tensors = {
    name: torch.tensor(np.array(x, np.float32)).to(model.dtype)
    for name, x in state.items()
  }
  missing, unexpected = model.load_state_dict(tensors, strict=False)
  assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
  return model
