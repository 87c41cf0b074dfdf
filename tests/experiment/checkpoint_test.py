"""`jalign train` from one Hugging Face checkpoint to another."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

from jalign import cli, data
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.models import hf
from jalign.sharding import make_mesh
from jalign.training.metrics import read_jsonl
from tests.data import chat_tokenizer
from tests.models.hf import cases, parity_test

# The config that users copy, with a small model.
CONFIG = pathlib.Path(__file__).parents[2] / "experiments/configs/checkpoint.py"
SMALL = {
  "model.dtype": "float32",
  "data.eval_fraction": 0.3,
  "optimizer.learning_rate": 3e-3,
  "optimizer.warmup_steps": 0,
  "batch_size": 8,
  "steps": 6,
  "sample.prompts": 2,
  "sample.max_new_tokens": 4,
}


def _said(text):
  return [{"role": "assistant", "content": text}]


def _rows(count=30):
  """Pairs with "a" in chosen responses and "b" in rejected ones."""
  for i in range(count):
    yield {
      "prompt": [{"role": "user", "content": f"q{i}"}],
      "chosen": _said("a" * (1 + i % 3)),
      "rejected": _said("b" * (1 + i % 2)),
    }


@pytest.fixture
def start(tmp_path):
  """A checkpoint with a chat tokenizer and a padded vocabulary."""
  described = json.loads(str(parity_test.GOLDEN["qwen3/json"]))
  config = described["config"] | {"vocab_size": 272, "eos_token_id": 256}
  shapes = described["shapes"] | {"model.embed_tokens.weight": (272, 16)}
  cases.write(tmp_path / "start", config, shapes)
  return chat_tokenizer.write(tmp_path / "start")


def _flags(place, start):
  values = SMALL | {"init_from": start, "data.path": place.data}
  return [f"--config.{key}={value}" for key, value in values.items()]


@pytest.fixture(params=[pytest.param("all", marks=pytest.mark.slow), "lora"])
def trained(place, start, request):
  """(place, run, checkpoint exported from it)."""
  place.write_data(_rows())
  place.config = CONFIG
  lora = ["--config.lora.rank=4"] if request.param == "lora" else []
  place.flags = [*_flags(place, start), *lora]
  run, _ = place.train(*place.flags)
  target = place.folder / "export"
  cli.main(["convert", f"--model={run}", f"--to={target}"])
  return place, run, target


def test_aligned_and_handed_back(trained, start):
  place, run, target = trained
  config, params = hf.load(target)
  stage = folders.last_stage(run)
  ours = trained_params(folders.model_of(run), make_mesh(), stage)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(ours), params)
  before = hf.load(start)
  assert before[0] == config
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[1], params)
  assert 0 < max(jax.tree.leaves(moved)) < 0.1
  # The files that make it a chat model were copied, too.
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (target / name).read_bytes() == (start / name).read_bytes()
  written = json.loads((target / "config.json").read_text())
  assert written["architectures"] == ["Qwen3ForCausalLM"]
  assert written["eos_token_id"] == 256
  # A run isn't continued from another model than it began with.
  path = start / "config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps(config | {"rms_norm_eps": 0.125}))
  said = place.fails(place.command(*place.flags, "--config.resume=anyway"))
  assert "model.rms_norm_eps (from" in said and "to 0.125) changed" in said
  path.write_text(json.dumps(config, indent=7))  # the same, written otherwise
  _, said = place.train(*place.flags)
  assert "resumes at step 6 of 6" in said


def _chosen(folder, rows):
  """The chosen responses' mean log-prob, computed by transformers."""
  import torch
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
  model = transformers.AutoModelForCausalLM.from_pretrained(str(folder)).eval()
  sums = []
  for row in rows:
    prompt = tokenizer.apply_chat_template(
      row["prompt"], tokenize=False, add_generation_prompt=True
    )
    answer = row["chosen"][0]["content"] + "<|im_end|>"
    head, tail = (
      tokenizer(text, add_special_tokens=False)["input_ids"]
      for text in (prompt, answer)
    )
    tokens = torch.tensor([head + tail])
    with torch.no_grad():
      logps = torch.log_softmax(model(tokens).logits[0, :-1].double(), -1)
    picked = logps.gather(-1, tokens[0, 1:, None])[:, 0]
    sums.append(float(picked[len(head) - 1 :].sum()))
  return np.mean(sums)


@pytest.mark.skipif(
  importlib.util.find_spec("torch") is None, reason="PyTorch isn't installed"
)
def test_transformers_sees_the_rise_that_we_report(trained, start):
  place, run, target = trained
  rows = list(read_jsonl(run / "align" / "metrics.jsonl"))
  last = [r for r in rows if "eval/loss" in r][-1]
  records, _ = data.read(
    "jsonl", str(place.data), template=data.load_template(start)
  )
  _, held_out = data.split(records, 0.3, 0)
  lines = {int(r.source.rpartition(":")[2]) for r in held_out}
  held_rows = [row for i, row in enumerate(_rows(), 1) if i in lines]
  assert len(held_rows) == len(held_out)
  rise = _chosen(target, held_rows) - _chosen(start, held_rows)
  assert abs(rise) > 0.01
  np.testing.assert_allclose(
    last["eval/chosen_log_ratio_nats"], rise, atol=1e-3
  )


def test_what_a_checkpoint_cannot_be(place, start):
  place.write_data(_rows())
  place.config, flags = CONFIG, _flags(place, start)
  said = place.fails(place.command(*flags, "--config.model.hidden_size=32"))
  assert "config.model.hidden_size" in said and "16" in said
  said = place.fails(["convert", f"--model={start}", "--to=nowhere"])
  assert str(start) in said
  config = json.loads((start / "config.json").read_text())
  shapes = json.loads(str(parity_test.GOLDEN["qwen3/json"]))["shapes"]
  cases.write(start, config | {"vocab_size": 61}, shapes)
  said = place.fails(place.command(*flags))
  assert "258 tokens" in said and "embeddings of 61" in said
