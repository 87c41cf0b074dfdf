"""Files config.json of the hub, from older versions of transformers."""

import json

import pytest

from jalign.models import hf
from jalign.models.config import FULL

_COMMON = {
  "attention_dropout": 0.0,
  "initializer_range": 0.02,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.42.4",
  "use_cache": True,
}
_GEMMA = {
  "attention_bias": False,
  "cache_implementation": "hybrid",
  "head_dim": 256,
  "hidden_activation": "gelu_pytorch_tanh",
  "num_hidden_layers": 26,
  "query_pre_attn_scalar": 256,
  "rms_norm_eps": 1e-06,
}
PUBLISHED = {
  "llama": {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
      "factor": 32.0,
      "high_freq_factor": 4.0,
      "low_freq_factor": 1.0,
      "original_max_position_embeddings": 8192,
      "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
  },
  "qwen2": {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
  },
  "gemma2": _GEMMA
  | {
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "vocab_size": 256000,
  },
  "gemma3_text": _GEMMA
  | {
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
  },
  "phi3": {
    "architectures": ["Phi3ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "embd_pdrop": 0.0,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "vocab_size": 32064,
  },
}


@pytest.fixture
def read(tmp_path):
  def config_of(name):
    settings = _COMMON | PUBLISHED[name] | {"model_type": name}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return hf.read_config(tmp_path)

  return config_of


def test_they_are_understood(read):
  llama = read("llama")
  assert llama.rope_theta == 500000 and llama.tie_word_embeddings
  assert dict(llama.rope_scaling)["rope_type"] == "llama3"
  assert not any(read("qwen2").windows)
  gemma2 = read("gemma2")
  assert gemma2.windows == (4096, 0) * 13
  assert gemma2.attn_logit_softcapping == 50 and gemma2.tie_word_embeddings
  gemma3 = read("gemma3_text")
  assert gemma3.layer_types.count(FULL) == 4 and gemma3.windows[5] == 0
  assert gemma3.rope_theta == 1e6 and gemma3.rope_local_base_freq == 1e4
  assert read("phi3").windows == (2047,) * 32
