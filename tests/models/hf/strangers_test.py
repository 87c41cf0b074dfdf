"""Checkpoints from unknown sources: odd numbers and types, and NaN."""

import json
import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jalign.errors import UserError
from jalign.models import ModelConfig, hf
from jalign.models.hf.shards import SINGLE, not_finite
from tests.models.hf import cases, parity_test


def _config(folder, case, **changes):
  described = json.loads(str(parity_test.GOLDEN[f"{case}/json"]))["config"]
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps(described | changes))
  return folder


def _yarn(**changes):
  rope = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 8,
  }
  return {"rope_parameters": rope | changes}


@pytest.mark.parametrize(
  "case, changes",
  [
    ("mistral", {"sliding_window": -4}),
    ("mistral", {"sliding_window": 0}),
    ("mistral", {"sliding_window": 2.5}),
    ("llama", {"rms_norm_eps": math.nan}),
    ("llama", {"rms_norm_eps": 0.0}),
    ("llama", {"rms_norm_eps": -1e-6}),
    ("llama", {"rms_norm_eps": math.inf}),
    ("llama", {"rms_norm_eps": "1e-6"}),
    ("llama", {"vocab_size": 0}),
    ("llama", {"vocab_size": 2**40}),
    ("llama", {"vocab_size": 61.0}),
    ("llama", {"hidden_size": -16}),
    ("llama", {"hidden_size": True}),
    ("llama", {"num_attention_heads": 0}),
    ("llama", {"num_key_value_heads": 3}),
    ("llama", {"num_hidden_layers": 10**9}),
    ("llama", {"initializer_range": -0.1}),
    ("llama", {"tie_word_embeddings": "no"}),
    ("llama", {"tie_word_embeddings": 1}),
    ("llama", {"attention_bias": "yes"}),
    ("llama", {"max_position_embeddings": -5}),
    ("llama", {"head_dim": 0}),
    ("llama", {"head_dim": -4}),
    ("llama", {"something_new": 0}),
    ("gemma2", {"attn_logit_softcapping": 0}),
    ("gemma2", {"attn_logit_softcapping": -2.0}),
    ("gemma2", {"final_logit_softcapping": math.nan}),
    ("gemma2", {"query_pre_attn_scalar": -6}),
    ("gemma2", {"layer_types": ["chunked_attention"] * 4}),
    ("gemma2", {"sliding_window": None}),
    ("gpt2", {"layer_norm_epsilon": 0.0}),
    ("gpt2", {"n_positions": -1}),
    ("mixtral", {"num_local_experts": -1}),
    ("mixtral", {"num_experts_per_tok": 9}),
    ("qwen3-moe", {"num_experts": 10**9}),
  ],
)
def test_every_number_of_a_config_has_its_range(case, changes, tmp_path):
  folder = _config(tmp_path / case, case, **changes)
  with pytest.raises(UserError) as caught:
    hf.read_config(folder)
  assert str(folder / "config.json") in str(caught.value)
  assert next(iter(changes)) in str(caught.value)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"rope_theta": 0}, "rope_theta"),
    ({"rope_theta": -1.0}, "rope_theta"),
    ({"rope_theta": math.inf}, "rope_theta"),
    ({"rope_theta": math.nan}, "rope_theta"),
    ({"factor": 0.0}, "factor"),
    ({"factor": "4"}, "factor"),
    ({"original_max_position_embeddings": 0}, "original_max_position"),
    ({"beta_fast": -1.0}, "beta_fast"),
    ({"attention_factor": math.nan}, "attention_factor"),
    ({"truncate": "no"}, "truncate"),
    (
      {"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 1.0},
      "low_freq_factor",
    ),
  ],
)
def test_every_number_of_a_rotation(changes, said, tmp_path):
  folder = _config(tmp_path / "llama", "llama", **_yarn(**changes))
  with pytest.raises(UserError, match=said):
    hf.read_config(folder)


def test_numbers_of_our_own_configs():
  sizes = dict(
    vocab_size=61,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
  )
  for name, value in (
    ("rms_norm_eps", math.nan),
    ("rope_theta", 0),
    ("rope_local_base_freq", -1.0),
    ("embedding_scale", math.inf),
    ("vocab_size", "61"),
    ("hidden_size", 10**400),
    ("scan_unroll", 0),
    ("qk_norm", 1),
    ("head_dim", 8.0),
  ):
    with pytest.raises(UserError, match=f"model.{name}: "):
      ModelConfig(**{**sizes, name: value})
  assert ModelConfig(**sizes, rms_norm_eps=np.float32(0.5)).head_dim == 8
  assert ModelConfig(**{**sizes, "vocab_size": np.int64(61)}).vocab_size == 61


@pytest.mark.parametrize(
  "given, name",
  [
    (jnp.float32, "float32"),
    (jnp.bfloat16, "bfloat16"),
    (np.float16, "float16"),
    (np.dtype("float32"), "float32"),
    ("f2", "float16"),
    ("bfloat16", "bfloat16"),
    (jnp.zeros(1, jnp.bfloat16).dtype, "bfloat16"),
  ],
)
def test_types_are_what_jnp_dtype_takes(given, name, tmp_path):
  config = ModelConfig(61, 16, 24, 1, 2, 2, dtype=given, param_dtype=given)
  assert config.dtype == config.param_dtype == name
  assert config == ModelConfig(
    61, 16, 24, 1, 2, 2, dtype=name, param_dtype=name
  )
  folder = _config(tmp_path / "llama", "llama")
  assert hf.read_config(folder, dtype=given).dtype == name


def test_types_that_are_none():
  for given in (jnp.int8, "float64", "halb", object(), 3):
    with pytest.raises(UserError, match=r"model\.dtype"):
      ModelConfig(61, 16, 24, 1, 2, 2, dtype=given)
  config = ModelConfig(61, 16, 24, 1, 2, 2, cache_dtype=jnp.int8)
  assert config.cache_dtype == "int8"


@pytest.fixture
def checkpoint(tmp_path):
  described = json.loads(str(parity_test.GOLDEN["llama/json"]))
  return cases.write(
    tmp_path / "llama", described["config"], described["shapes"]
  )


def _change(folder, change):
  tensors = safetensors.numpy.load_file(folder / SINGLE)
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / SINGLE)


def test_a_type_can_be_asked_for_as_everyone_writes_it(checkpoint):
  config, params = hf.load(checkpoint, dtype=jnp.float32)
  assert config.dtype == "float32" and params["norm"].dtype == jnp.float32
  config, params = hf.load(
    checkpoint, dtype=np.dtype("float32"), param_dtype=jnp.bfloat16
  )
  assert config.dtype == "float32" and config.param_dtype == "bfloat16"
  assert params["norm"].dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [np.int8, np.bool_, np.int64, np.uint8])
@pytest.mark.parametrize("asked", ["", "float32"])
def test_whole_numbers_are_no_weights(dtype, asked, checkpoint):
  name = "model.layers.1.mlp.up_proj.weight"
  _change(checkpoint, lambda t: t.__setitem__(name, t[name].astype(dtype)))
  with pytest.raises(UserError, match="quantised"):
    hf.load(checkpoint, param_dtype=asked)


def test_double_precision_is_narrowed_where_it_is_asked_for(checkpoint):
  _change(
    checkpoint,
    lambda t: t.update({k: x.astype(np.float64) for k, x in t.items()}),
  )
  with pytest.raises(UserError, match="param_dtype"):
    hf.load(checkpoint)
  _, params = hf.load(checkpoint, param_dtype="float32")
  assert params["norm"].dtype == jnp.float32


def test_what_is_not_finite_is_counted(checkpoint):
  def change(tensors):
    tensors["model.norm.weight"][3] = math.nan
    tensors["model.layers.2.mlp.down_proj.weight"][:2, 1] = -math.inf

  _change(checkpoint, change)
  with pytest.raises(UserError) as caught:
    hf.load(checkpoint)
  for said in (
    "3 of its numbers",
    "model.norm.weight (1)",
    "model.layers.2.mlp.down_proj.weight (2)",
  ):
    assert said in str(caught.value)


def test_what_is_too_large_for_a_type(checkpoint):
  _change(checkpoint, lambda t: t["model.norm.weight"].__setitem__(0, -1e5))
  hf.load(checkpoint, param_dtype="bfloat16")
  with pytest.raises(UserError, match=r"1 of .*too large for float16"):
    hf.load(checkpoint, param_dtype="float16")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_counts_of_what_is_not_finite(dtype):
  x = np.linspace(-6e4, 6e4, 3 * 2**16 + 5).astype(dtype)
  assert not_finite(x) == 0
  assert not_finite(np.zeros((0, 2), dtype)) == 0
  x[[0, 70_000, -1]] = math.nan, math.inf, -math.inf
  assert not_finite(x) == not_finite(x[::-1]) == 3
  assert not_finite(x.astype(np.float32) * 2, "float16") > 3
