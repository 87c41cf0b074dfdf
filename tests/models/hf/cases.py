"""Tiny checkpoints of every family, the same on every machine.

Configs are transformers' own. Weights are drawn from the tensors' names, so the
file of golden values needn't hold weights.
"""

import json
import zlib

import numpy as np
import safetensors.numpy

_SIZES = dict(
  vocab_size=61,
  hidden_size=16,
  intermediate_size=24,
  num_hidden_layers=4,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=16,
  bos_token_id=1,
  eos_token_id=2,
  pad_token_id=0,
)
_WIDE = dict(head_dim=8)  # 4 * 8 isn't 16


def _rope(kind, **more):
  return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **more}}


_LLAMA3 = dict(
  factor=4.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8,
)
# Case -> (class of transformers' config, its arguments).
CASES = {
  "llama": ("LlamaConfig", {}),
  "llama-biased-tied": (
    "LlamaConfig",
    dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
  ),
  "llama-linear": ("LlamaConfig", _rope("linear", factor=2.0)),
  "llama-dynamic": (
    "LlamaConfig",
    dict(max_position_embeddings=8, **_rope("dynamic", factor=2.0)),
  ),
  "llama-llama3": ("LlamaConfig", _rope("llama3", **_LLAMA3)),
  "llama-yarn": (
    "LlamaConfig",
    _rope("yarn", factor=4.0, original_max_position_embeddings=8),
  ),
  "qwen2": ("Qwen2Config", {}),
  "qwen2-windows": (
    "Qwen2Config",
    dict(use_sliding_window=True, sliding_window=3, max_window_layers=2),
  ),
  "qwen3": ("Qwen3Config", dict(_WIDE, tie_word_embeddings=True)),
  "mistral": ("MistralConfig", dict(_WIDE, sliding_window=4)),
  "gemma": ("GemmaConfig", _WIDE),
  "gemma2": (
    "Gemma2Config",
    dict(_WIDE, sliding_window=3, query_pre_attn_scalar=6,
         attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
  ),
  "gemma3": (
    "Gemma3TextConfig",
    dict(_WIDE, sliding_window=3, query_pre_attn_scalar=6,
         layer_types=["sliding_attention", "full_attention"] * 2),
  ),
  "phi3": ("Phi3Config", dict(sliding_window=5)),
  "olmo2": ("Olmo2Config", {}),
  "smollm3": ("SmolLM3Config", dict(no_rope_layers=[1, 0, 1, 0])),
  "gpt2": (
    "GPT2Config",
    dict(vocab_size=61, n_embd=16, n_inner=24, n_layer=4, n_head=4,
         n_positions=16, bos_token_id=1, eos_token_id=2, pad_token_id=0),
  ),
  "mixtral": ("MixtralConfig", dict(num_local_experts=4, sliding_window=None)),
  "qwen3-moe": (
    "Qwen3MoeConfig",
    dict(_WIDE, num_experts=4, num_experts_per_tok=2,
         moe_intermediate_size=24),
  ),
}  # fmt: skip
# Case of a base -> settings of a PEFT adapter to it.
ADAPTERS = {
  "qwen3": dict(target_modules=["q_proj", "o_proj", "down_proj"]),
  "llama": dict(target_modules="all-linear", use_rslora=True),
  "olmo2": dict(target_modules=["k_proj", "up_proj"], use_dora=True),
  "phi3": dict(
    target_modules=["qkv_proj", "down_proj"],
    rank_pattern={"qkv_proj": 2},
    alpha_pattern={"qkv_proj": 5},
  ),
  "gpt2": dict(target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True),
  "mistral": dict(target_modules=["v_proj"], layers_to_transform=[1, 3]),
}
REWARDS = ("llama", "gemma3", "gpt2", "mixtral")
# Reward models of several labels, whose padding is the end of sequence.
LABELS = ("qwen2", "gpt2", "olmo2")
NAMES = {0: "helpful", 1: "harmless", 2: "honest"}
# Case of a base -> settings of a PEFT adapter to a reward model.
REWARD_ADAPTERS = {
  "qwen3": dict(target_modules=["q_proj", "down_proj"]),
  "gpt2": dict(target_modules=["c_attn"], fan_in_fan_out=True),
}


def config_of(case):
  import transformers

  name, more = CASES[case]
  sizes = {} if name == "GPT2Config" else _SIZES
  return getattr(transformers, name)(**sizes | more)


def weight(name, shape, dtype=np.float32):
  """Values of a tensor, large enough that logits aren't small."""
  draws = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
  if "norm" in name or ".ln_" in name or "magnitude" in name:
    return (1 + 0.2 * draws).astype(dtype)
  return (0.4 * draws).astype(dtype)


def write(folder, config, shapes):
  """Writes a checkpoint, given a config's dict and tensors' shapes by name."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config))
  _write_tensors(folder / "model.safetensors", shapes)
  return folder


def write_adapter(folder, config, shapes):
  """Writes an adapter, given its config and tensors' shapes by name."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "adapter_config.json").write_text(json.dumps(config))
  _write_tensors(folder / "adapter_model.safetensors", shapes)
  return folder


def _write_tensors(path, shapes):
  tensors = {name: weight(name, shape) for name, shape in shapes.items()}
  safetensors.numpy.save_file(tensors, path, {"format": "pt"})


TOKENS = np.random.default_rng(0).integers(3, 61, (2, 12)).astype(np.int32)
PADDED = np.array([[5, 6, 7, 8, 0, 0], [9, 10, 11, 12, 13, 14]], np.int32)
ENDED = np.array([[5, 6, 2, 8, 2, 2], [9, 10, 11, 12, 13, 14]], np.int32)
PROMPTS = ([7, 8, 9, 10, 11], [12], [13, 14, 15])  # of several lengths
NEW = 6


def direction(name, shape):
  """The direction on which a tensor's gradient is projected."""
  seed = zlib.crc32(b"direction " + name.encode())
  return np.random.default_rng(seed).normal(size=shape)
