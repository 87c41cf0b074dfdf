"""PEFT's adapters, read and written, give PEFT's own golden values."""

import json

import jax
import numpy as np
import pytest

from jalign import logprobs
from jalign.errors import UserError
from jalign.models import hf, lora, transformer
from jalign.models.lora import LoraConfig
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN
from tests.models.lora_test import random_delta


def _base(case, tmp_path):
  described = json.loads(str(GOLDEN[f"{case}/json"]))
  return cases.write(tmp_path / case, described["config"], described["shapes"])


def _adapter(case, tmp_path, **changes):
  described = json.loads(str(GOLDEN[f"adapter/{case}/json"]))
  config = described["config"] | changes
  return cases.write_adapter(tmp_path / "adapter", config, described["shapes"])


def _logits(config, params):
  model = transformer(config)
  hidden = jax.jit(model.forward)(params, cases.TOKENS)
  return logprobs.logits(model.head(params), hidden)


@pytest.mark.parametrize("case", cases.ADAPTERS)
def test_logits_are_those_of_peft(case, tmp_path):
  config, base = hf.load(_base(case, tmp_path))
  settings, delta = hf.load_adapter(_adapter(case, tmp_path), config)
  want = GOLDEN[f"adapter/{case}/logits"]
  assert np.abs(want - GOLDEN[f"{case}/logits"]).max() > 0.1
  policy = lora.join(settings, delta, base)
  for params in (policy, lora.merge(policy)):
    np.testing.assert_allclose(_logits(config, params), want, atol=2e-4)


@pytest.mark.parametrize("case", cases.ADAPTERS)
def test_out_and_in_again(case, tmp_path):
  config, base = hf.load(_base(case, tmp_path))
  settings, delta = hf.load_adapter(_adapter(case, tmp_path), config)
  hf.save_adapter(delta, config, settings, tmp_path / "out")
  again, same = hf.load_adapter(tmp_path / "out", config)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    lora.merge(lora.join(again, same, base)),
    lora.merge(lora.join(settings, delta, base)),
  )
  written = json.loads((tmp_path / "out/adapter_config.json").read_text())
  assert written["peft_type"] == "LORA" and written["task_type"] == "CAUSAL_LM"
  assert written["fan_in_fan_out"] == (case == "gpt2")


SETTINGS = {
  "lora": LoraConfig(rank=2),
  "rslora": LoraConfig(rank=2, use_rslora=True),
  "dora": LoraConfig(rank=2, use_dora=True),
}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("case", ["qwen3", "gpt2", "phi3"])
def test_peft_opens_ours(case, settings, tmp_path):
  peft = pytest.importorskip("peft", reason="PEFT isn't installed")
  import torch
  import transformers

  folder = _base(case, tmp_path)
  config, base = hf.load(folder)
  settings = SETTINGS[settings]
  delta = random_delta(config, settings, base)
  hf.save_adapter(delta, config, settings, tmp_path / "out", base=str(folder))
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, attn_implementation="eager"
  )
  model = peft.PeftModel.from_pretrained(model, tmp_path / "out").eval()
  with torch.no_grad():
    tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
    got = model(tokens).logits.numpy()
  want = _logits(config, lora.merge(lora.join(settings, delta, base)))
  np.testing.assert_allclose(got, want, atol=2e-4)


def test_names_and_shapes(tmp_path):
  """They are PEFT's, which are written here by hand."""
  config, base = hf.load(_base("qwen3", tmp_path))
  settings = LoraConfig(rank=2, targets=("blocks/wq", "blocks/down"))
  delta = random_delta(config, settings, base)
  hf.save_adapter(delta, config, settings, tmp_path / "out")
  import safetensors.numpy

  tensors = safetensors.numpy.load_file(
    tmp_path / "out/adapter_model.safetensors"
  )
  at = "base_model.model.model.layers.{}.{}.lora_{}.weight"
  want = {}
  for layer in range(4):
    want[at.format(layer, "self_attn.q_proj", "A")] = (2, 16)
    want[at.format(layer, "self_attn.q_proj", "B")] = (32, 2)
    want[at.format(layer, "mlp.down_proj", "A")] = (2, 24)
    want[at.format(layer, "mlp.down_proj", "B")] = (16, 2)
  assert {name: x.shape for name, x in tensors.items()} == want
  tensor = tensors[at.format(3, "self_attn.q_proj", "B")]
  np.testing.assert_array_equal(
    tensor, np.asarray(delta["blocks"]["wq"]["b"][3]).reshape(2, 32).T
  )


def test_a_delta_of_other_settings(tmp_path):
  config, base = hf.load(_base("qwen3", tmp_path))
  delta = random_delta(config, LoraConfig(rank=4), base)
  for other in (
    LoraConfig(rank=2),
    LoraConfig(rank=4, targets=("blocks/wq",)),
    LoraConfig(rank=4, use_dora=True),
  ):
    with pytest.raises(UserError, match="delta isn't that of these settings"):
      hf.save_adapter(delta, config, other, tmp_path / "out")


def test_what_is_wrong_is_said(tmp_path):
  config, _ = hf.load(_base("qwen3", tmp_path))
  other, _ = hf.load(_base("gpt2", tmp_path))

  def refused(*said, config=config):
    with pytest.raises(UserError) as caught:
      hf.load_adapter(tmp_path / "adapter", config)
    for text in said:
      assert text in str(caught.value), caught.value

  refused("adapter_config.json")
  _adapter("qwen3", tmp_path)
  refused("q_proj.lora_A.weight", config=other)
  for change, said in (
    ({"peft_type": "IA3"}, "IA3"),
    ({"bias": "all"}, "bias='all'"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
  ):
    _adapter("qwen3", tmp_path, **change)
    refused(said)
  _adapter("qwen3", tmp_path, use_dora=True)  # but its lengths are missing
  refused("q_proj")
  folder = _adapter("qwen3", tmp_path)
  file = folder / "adapter_model.safetensors"
  file.write_bytes(file.read_bytes()[:-7])
  refused("adapter_model.safetensors", "can't be read")
  settings = LoraConfig(rank=2, targets=("blocks/wq",), use_dora=True)
  phi, base = hf.load(_base("phi3", tmp_path))
  delta = random_delta(phi, settings, base)
  with pytest.raises(UserError, match=r"part of .*qkv_proj"):
    hf.save_adapter(delta, phi, settings, tmp_path / "out")
  assert not list(tmp_path.glob("out*"))
