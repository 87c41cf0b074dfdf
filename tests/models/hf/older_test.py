"""Exports for programs that only know transformers 4's keys."""

import json

import pytest
import transformers

from jalign.models.hf.description import config_from, config_to
from tests.models.hf import cases, parity_test


def _of(case):
  described = json.loads(str(parity_test.GOLDEN[f"{case}/json"]))["config"]
  fields = {k: x for k, x in described.items() if k != "model_type"}
  config = transformers.AutoConfig.for_model(described["model_type"], **fields)
  return config_from(config.to_dict())


@pytest.mark.parametrize("case", cases.CASES)
def test_the_older_keys_say_the_same(case):
  """They suffice without `rope_parameters` and `layer_types` of version 5."""
  config = _of(case)
  written = config_to(config)
  name = written.pop("model_type")
  new = {"rope_parameters", "layer_types"} & written.keys()
  assert ("rope_parameters" in new) == (case != "gpt2")
  alone = {key: x for key, x in written.items() if key not in new}
  for keys in (alone, written):
    again = transformers.AutoConfig.for_model(name, **_as_read(keys))
    assert config_from(again.to_dict()) == config


def _as_read(keys):
  return json.loads(json.dumps(keys))


def test_the_keys_by_hand():
  assert config_to(_of("llama"))["rope_theta"] == 10_000.0
  assert "rope_scaling" not in config_to(_of("llama"))
  scaled = config_to(_of("llama-llama3"))
  assert scaled["rope_theta"] == 100.0
  assert scaled["rope_scaling"] == {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
  }
  gemma = config_to(_of("gemma3"))
  assert gemma["rope_theta"] == 1_000_000.0
  assert gemma["rope_local_base_freq"] == 10_000.0
  assert gemma["sliding_window_pattern"] == 2
  assert config_to(_of("qwen2-windows"))["max_window_layers"] == 2
  assert config_to(_of("llama-dynamic"))["max_position_embeddings"] == 8
