"""Checkpoints on meshes and in several dtypes; errors about files."""

import dataclasses
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jalign import sharding
from jalign.errors import UserError
from jalign.models import ModelConfig, hf, transformer
from jalign.models.hf.shards import INDEX, SINGLE
from tests.models.hf import cases, parity_test


def _made(tmp_path, case="qwen3"):
  described = json.loads(str(parity_test.GOLDEN[f"{case}/json"]))
  folder = tmp_path / case
  cases.write(folder, described["config"], described["shapes"])
  return folder, described


@pytest.mark.parametrize("mesh_shape", [(2, 2, 2), (1, 4, 2)])
@pytest.mark.parametrize("case", ["qwen3", "phi3", "olmo2"])
def test_each_device_gets_its_part(tmp_path, case, mesh_shape):
  folder, _ = _made(tmp_path, case)
  _, want = hf.load(folder)
  mesh = sharding.make_mesh(*mesh_shape)
  # A vocabulary of 61 rows doesn't split.
  rules = tuple((k, v) for k, v in sharding.RULES if k != "vocab")
  config, got = hf.load(folder, mesh=mesh, rules=rules)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), want)
  weight = got["blocks"]["down"]
  assert weight.sharding.spec == jax.sharding.PartitionSpec(
    None, "tensor", "fsdp"
  )
  hf.save(got, config, tmp_path / "out")
  _, again = hf.load(tmp_path / "out")
  jax.tree.map(np.testing.assert_array_equal, again, want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_go_in_and_out_to_the_bit(tmp_path, dtype):
  folder, _ = _made(tmp_path)
  config, params = hf.load(folder, param_dtype=dtype)
  assert config.dtype == config.param_dtype == dtype
  hf.save(params, config, tmp_path / "out")
  with hf.open_shards(tmp_path / "out") as shards:
    assert {shards.dtype(name) for name in shards.files} == {
      {"bfloat16": "BF16", "float16": "F16"}[dtype]
    }
  again, same = hf.load(tmp_path / "out")
  assert again == config
  jax.tree.map(np.testing.assert_array_equal, same, params)
  config, wide = hf.load(tmp_path / "out", param_dtype="float32")
  assert config.dtype == "float32"
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x, y.astype(jnp.float32)),
    wide,
    params,
  )


def _rewrite(folder, change):
  """Rewrites a folder's tensors after `change(dict)`."""
  tensors = safetensors.numpy.load_file(folder / SINGLE)
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / SINGLE)


def _refused(folder, *said, **options):
  with pytest.raises(UserError) as caught:
    hf.load(folder, **options)
  for text in said:
    assert text in str(caught.value), caught.value


def test_names_and_shapes_that_are_wrong_are_listed(tmp_path):
  folder, _ = _made(tmp_path)

  def change(tensors):
    del tensors["model.layers.2.self_attn.q_norm.weight"]
    tensors["model.layers.0.extra"] = np.zeros(3, np.float32)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name][:-1].copy()

  _rewrite(folder, change)
  _refused(
    folder,
    "missing: model.layers.2.self_attn.q_norm.weight",
    "unexpected: model.layers.0.extra",
    "model.layers.1.mlp.up_proj.weight is (23, 16), not (24, 16)",
  )


def test_a_file_that_is_cut_short(tmp_path):
  folder, _ = _made(tmp_path)
  data = (folder / SINGLE).read_bytes()
  (length,) = struct.unpack("<Q", data[:8])
  for size in (0, 5, 8 + length // 2, 8 + length, len(data) - 1):
    (folder / SINGLE).write_bytes(data[:size])
    _refused(folder, SINGLE, "cut short")


def test_an_index_that_is_wrong(tmp_path):
  folder, _ = _made(tmp_path)
  config, params = hf.load(folder)
  several = tmp_path / "several"
  hf.save(params, config, several, shard_bytes=4000)
  index = json.loads((several / INDEX).read_text())
  files = sorted(set(index["weight_map"].values()))
  first = min(k for k, v in index["weight_map"].items() if v == files[0])

  def write(weight_map):
    text = json.dumps({"weight_map": weight_map})
    (several / INDEX).write_text(text)

  write(index["weight_map"] | {first: files[1]})
  _refused(several, INDEX, "not in the files that the index names", first)
  write(index["weight_map"] | {first: "nowhere.safetensors"})
  _refused(several, "nowhere.safetensors", "doesn't exist")
  write(index["weight_map"] | {first: "../out.safetensors"})
  _refused(several, INDEX, "weight_map")
  (several / INDEX).write_text("[")
  _refused(several, INDEX)


def test_mixed_dtypes_need_a_choice(tmp_path):
  folder, _ = _made(tmp_path)
  name = "model.norm.weight"
  _rewrite(folder, lambda t: t.__setitem__(name, t[name].astype(np.float16)))
  _refused(folder, "of F32", "1 of F16", "param_dtype")
  config, params = hf.load(folder, param_dtype="float32")
  assert params["norm"].dtype == jnp.float32 and config.dtype == "float32"


def test_embeddings_that_should_be_one(tmp_path):
  folder, _ = _made(tmp_path)
  embed, head = "model.embed_tokens.weight", "lm_head.weight"
  _rewrite(folder, lambda t: t.__setitem__(head, t[embed].copy()))
  hf.load(folder)
  _rewrite(folder, lambda t: t.__setitem__(head, t[embed] + 1))
  _refused(folder, "tie_word_embeddings", "differ")


def test_a_config_that_asks_for_the_unknown(tmp_path):
  folder, described = _made(tmp_path)
  for change, said in (
    ({"new_feature": 3}, "new_feature"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"attention_dropout": 0.1}, "attention_dropout is 0.1"),
    ({"model_type": "gpt_neox"}, "gpt_neox"),
    ({"hidden_act": "mish"}, "hidden_act"),
    (
      {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1.0}},
      "longrope",
    ),
  ):
    text = json.dumps(described["config"] | change)
    (folder / "config.json").write_text(text)
    _refused(folder, said)
  (folder / "config.json").write_text("{")
  _refused(folder, "config.json", "can't be read")
  (folder / "config.json").unlink()
  _refused(folder, "config.json", "no such file")


def test_a_folder_without_safetensors(tmp_path):
  folder, _ = _made(tmp_path)
  (folder / SINGLE).rename(folder / "pytorch_model.bin")
  _refused(folder, "pytorch_model.bin", "safetensors")


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch):
  folder, _ = _made(tmp_path)
  config, params = hf.load(folder)
  target = tmp_path / "out"

  def fail(*args, **kwargs):
    raise OSError("no space")

  with monkeypatch.context() as patch:
    patch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
      hf.save(params, config, target)
  assert [p.name for p in tmp_path.iterdir()] == ["qwen3"]
  hf.save(params, config, target)
  with pytest.raises(UserError, match="already exists"):
    hf.save(params, config, target)


def test_what_no_family_says_is_refused(tmp_path):
  """No family's config.json has learnt norms around layers, or no rotation."""
  config = ModelConfig(
    vocab_size=61,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    norm_position="both",
    no_rope_layers=(0, 1),
  )
  params = transformer(config).init(jax.random.key(0))
  unheard_of = dataclasses.replace(
    config, norm_position="pre", no_rope_layers=(), model_type="unheard_of"
  )
  for settings in (config, unheard_of):
    with pytest.raises(UserError, match="no config.json"):
      hf.save(params, settings, tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_what_is_written_is_what_the_config_says(tmp_path):
  """Wrong shapes of equal size, and mixed types, are refused."""
  folder, _ = _made(tmp_path)
  config, params = hf.load(folder)
  turned = params | {"embed": params["embed"].T}
  with pytest.raises(UserError, match="disagree on embed"):
    hf.save(turned, config, tmp_path / "out")
  mixed = params | {"norm": params["norm"].astype(jnp.bfloat16)}
  with pytest.raises(UserError, match="bfloat16, float32"):
    hf.save(mixed, config, tmp_path / "out")
  narrow = jax.tree.map(lambda x: np.asarray(x, np.float16), params)
  hf.save(narrow, config, tmp_path / "out")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert written["dtype"] == written["torch_dtype"] == "float16"


@pytest.mark.parametrize(
  "fields, family",
  [
    ({}, "llama"),
    ({"attention_bias": True}, "qwen2"),
    ({"qk_norm": True}, "qwen3"),
    ({"sliding_window": 8}, "mistral"),
    (
      {
        "norm_position": "both",
        "norm_offset": True,
        "embedding_scale": 4.0,
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window": 4,
        "layer_types": ("sliding_attention", "full_attention"),
      },
      "gemma2",
    ),
  ],
)
def test_our_own_models_find_a_family(tmp_path, fields, family):
  config = ModelConfig(61, 16, 24, 2, 4, 2, **fields)
  params = transformer(config).init(jax.random.key(0))
  hf.save(params, config, tmp_path / "out")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert written["model_type"] == family
  _, again = hf.load(tmp_path / "out")
  jax.tree.map(np.testing.assert_array_equal, again, params)
