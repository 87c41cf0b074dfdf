"""Settings and tensors of adapters from unknown sources."""

import json
import math
import time

import numpy as np
import pytest
import safetensors.numpy

from jalign.errors import UserError
from jalign.models import ModelConfig, hf

CONFIG = ModelConfig(12, 8, 16, 2, 2, 2, model_type="llama")
SETTINGS = {
  "peft_type": "LORA",
  "task_type": "CAUSAL_LM",
  "r": 2,
  "lora_alpha": 8,
  "bias": "none",
  "target_modules": ["q_proj"],
}
NAME = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


def _tensors(rank=2, outputs=8):
  return {
    NAME.format(layer, part): np.full(shape, 0.5, np.float32)
    for layer in range(2)
    for part, shape in (("A", (rank, 8)), ("B", (outputs, rank)))
  }


def _write(folder, tensors=None, **settings):
  folder.mkdir(exist_ok=True)
  text = json.dumps({**SETTINGS, **settings})
  (folder / "adapter_config.json").write_text(text)
  safetensors.numpy.save_file(
    tensors or _tensors(), folder / "adapter_model.safetensors"
  )
  return folder


def _factors(folder):
  """Each layer's factor of the change, whose product is rank / 4 without it."""
  lora, delta = hf.load_adapter(folder, CONFIG)
  wq = delta["blocks"]["wq"]
  products = np.einsum("ldr,lrhe->l", wq["a"][:, :1], wq["b"][:, :, :1, :1])
  return (np.asarray(products) * lora.scale / 0.5).tolist()


def _refused(folder, *said):
  with pytest.raises(UserError) as caught:
    hf.load_adapter(folder, CONFIG)
  for text in said:
    assert text in str(caught.value), caught.value


@pytest.mark.parametrize(
  "patterns, factors",
  [
    ({}, [4, 4]),
    ({"layers.0.self_attn.q_proj": 64, "q_proj": 2}, [32, 1]),
    ({"q_proj": 2, "layers.0.self_attn.q_proj": 64}, [1, 1]),
    ({"^model.layers.1.self_attn.(q|k)_proj": 6}, [4, 3]),
    ({"proj": 6, r"layers\.\d+\..*q_proj": 10}, [5, 5]),
    ({"oq_proj": 6, "q_pro": 6, "self_attn": 6}, [4, 4]),
  ],
)
def test_the_first_pattern_that_matches_wins(patterns, factors, tmp_path):
  """As in PEFT's `get_pattern_key`."""
  folder = _write(tmp_path / "a", alpha_pattern=patterns)
  assert _factors(folder) == factors
  rooted = _write(tmp_path / "a", alpha_pattern=patterns, use_rslora=True)
  want = [x * math.sqrt(2) for x in factors]
  np.testing.assert_allclose(_factors(rooted), want, rtol=1e-6)


def test_ranks_are_those_of_the_tensors(tmp_path):
  tensors = _tensors() | {
    NAME.format(1, "A"): np.full((4, 8), 0.5, np.float32),
    NAME.format(1, "B"): np.full((8, 4), 0.5, np.float32),
  }
  folder = _write(tmp_path / "a", tensors, rank_pattern={"1.self_attn.*": 4})
  assert _factors(folder) == [4, 4]  # twice the columns, half the factor
  _refused(_write(tmp_path / "a", tensors), "layers.1", "rank 4", "says 2")
  both = {"layers.1": 4, ".*q_proj": 3, "1.self_attn.q_proj": 4}
  _refused(_write(tmp_path / "a", tensors, rank_pattern=both), "says 3")
  _refused(_write(tmp_path / "a", r=None), "rank 2", "says 8")  # PEFT's own


def test_a_part_that_the_settings_ask_for_is_missing(tmp_path):
  folder = _write(tmp_path / "a", use_dora=True)
  _refused(
    folder, "lora_A, lora_B, lora_magnitude_vector", "saved with this file"
  )


@pytest.mark.parametrize("outputs", [7, 16, 32])
def test_shapes_are_equal_on_both_sides(outputs, tmp_path):
  folder = _write(tmp_path / "a", _tensors(outputs=outputs))
  _refused(folder, f"({outputs}, 2)", "(8, 2)", "trained on")
  odd = _tensors() | {NAME.format(0, "B"): np.zeros((8, 3), np.float32)}
  _refused(_write(tmp_path / "a", odd), "(8, 3)")
  wide = _tensors() | {NAME.format(0, "A"): np.zeros((2, 9), np.float32)}
  _refused(_write(tmp_path / "a", wide), "(2, 9)")


@pytest.mark.parametrize(
  "settings, said",
  [
    ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    ({"init_lora_weights": "pissa_niter_16"}, "plain LoRA"),
    ({"init_lora_weights": "loftq"}, "path_initial_model_for_weight"),
    ({"init_lora_weights": "olora"}, "init_lora_weights"),
    ({"init_lora_weights": "corda"}, "init_lora_weights"),
    ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
    ({"use_qalora": True}, "use_qalora"),
    ({"lora_bias": True}, "lora_bias"),
    ({"bias": "lora_only"}, "bias='lora_only'"),
    ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ({"alora_invocation_tokens": [1]}, "acts only on some tokens"),
    ({"kasa_config": {"beta": 1}}, "kasa_config"),
    ({"peft_type": "ADALORA"}, "'ADALORA'"),
    ({"use_something_new": 1}, "use_something_new, which jalign doesn't know"),
    ({"use_something_new": 0}, "use_something_new"),
    ({"use_rslora": "false"}, "use_rslora is 'false'"),
    ({"use_dora": 1}, "use_dora is 1"),
    ({"lora_alpha": "8"}, "lora_alpha is '8'"),
    ({"lora_alpha": True}, "lora_alpha is True"),
    ({"lora_alpha": math.inf}, "lora_alpha is inf"),
    ({"lora_alpha": math.nan}, "lora_alpha is nan"),
    ({"lora_alpha": 1e10}, "lora_alpha"),
    ({"lora_alpha": 0}, "lora_alpha is 0"),
    ({"r": 2.0}, "r is 2.0"),
    ({"r": True}, "r is True"),
    ({"alpha_pattern": ["q_proj"]}, "alpha_pattern is ['q_proj']"),
    ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern of q_proj is -1"),
    ({"rank_pattern": {"q_proj": "2"}}, "rank_pattern of q_proj is '2'"),
    (
      {"alpha_pattern": {"(?=q)q_proj": 1}},
      "a regular expression that can be read",
    ),
    (
      {"alpha_pattern": {"a{99999999}": 1}},
      "a regular expression that can be read",
    ),
    ({"target_modules": ["q_proj", "k_proj"]}, "has no change"),
  ],
)
def test_settings_that_change_what_is_computed(settings, said, tmp_path):
  _refused(_write(tmp_path / "a", **settings), said)


def test_settings_that_do_not(tmp_path):
  """Settings that PEFT 0.21's `LoraConfig` writes have no effect if off."""
  folder = _write(
    tmp_path / "a",
    alora_invocation_tokens=None,
    arrow_config=None,
    auto_mapping=None,
    base_model_name_or_path="somewhere",
    corda_config=None,
    ensure_weight_tying=False,
    eva_config=None,
    exclude_modules=None,
    fan_in_fan_out=False,
    inference_mode=True,
    init_lora_weights="gaussian",
    kasa_config=None,
    layer_replication=None,
    layers_pattern=None,
    layers_to_transform=None,
    loftq_config={},
    lora_bias=False,
    lora_dropout=0.1,
    lora_ga_config=None,
    megatron_config=None,
    megatron_core="megatron.core",
    modules_to_save=None,
    monteclora_config=None,
    peft_version="0.21.2",
    qalora_group_size=16,
    rank_pattern={},
    revision=None,
    target_parameters=None,
    trainable_token_indices=None,
    use_bdlora=None,
    use_dora=False,
    use_qalora=False,
    use_rslora=False,
    velora_config=None,
    something_new=None,
  )
  assert _factors(folder) == [4, 4]


def test_values_are_finite_numbers(tmp_path):
  for value in (math.nan, math.inf, -math.inf):
    for dtype in (np.float32, np.float16):
      bad = {k: x.astype(dtype) for k, x in _tensors().items()}
      bad[NAME.format(0, "A")][1, :3] = value
      _refused(_write(tmp_path / "a", bad), "3 values", "lora_A")
  whole = {k: x.astype(np.int8) for k, x in _tensors().items()}
  _refused(_write(tmp_path / "a", whole), "int8")


def test_a_tensor_by_two_names(tmp_path):
  name = NAME.format(0, "A")
  twice = _tensors() | {
    name.replace(".weight", ".default.weight"): np.zeros((2, 8), np.float32)
  }
  _refused(_write(tmp_path / "a", twice), "lora_A")


def test_a_pattern_that_python_would_try_for_years(tmp_path):
  folder = _write(tmp_path / "a", alpha_pattern={"(.*.*.*.*)*(x+x+)+y": 3})
  started = time.perf_counter()
  assert _factors(folder) == [4, 4]
  assert time.perf_counter() - started < 20


@pytest.mark.parametrize("case", ["alpha-pattern-order", "pissa-adapter"])
def test_adapters_of_users(case, shared, tmp_path):
  folder = shared / "cases" / case
  config = hf.read_config(folder / "base")
  if case == "pissa-adapter":
    with pytest.raises(UserError, match=r"init_lora_weights.*plain LoRA"):
      hf.load_adapter(folder / "adapter", config)
    return
  lora, delta = hf.load_adapter(folder / "adapter_special", config)
  stored = safetensors.numpy.load_file(
    folder / "adapter_special/adapter_model.safetensors"
  )
  wq = delta["blocks"]["wq"]
  for layer, factor in ((0, 32), (1, 1)):
    a, b = (stored[NAME.format(layer, part)] for part in "AB")
    got = np.einsum("dr,rhe->dhe", wq["a"][layer], wq["b"][layer]) * lora.scale
    want = (b @ a).T.reshape(got.shape) * factor
    np.testing.assert_allclose(got, want, rtol=1e-5)
