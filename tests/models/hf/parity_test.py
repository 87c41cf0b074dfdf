"""Hugging Face checkpoints: equal logits, tokens, gradients, and exports.

The golden values are transformers' own (golden.py).
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs
from jalign.decode import generate, sampler
from jalign.models import hf, param_specs, transformer
from jalign.models.hf.tensors import tensors
from tests.models.hf import cases, golden

GOLDEN = np.load(golden.PATH)
# Decoding and gradients compile large programs for each case. In the fast lane,
# these cases have every part that another case adds to the step of decoding.
DECODED = (
  *("llama-biased-tied", "llama-dynamic", "llama-yarn", "qwen2-windows"),
  *("qwen3", "gemma2", "gemma3", "phi3", "olmo2", "smollm3", "gpt2"),
  "qwen3-moe",
)

IN_PART = pytest.mark.parametrize(
  "case",
  [
    name if name in DECODED else pytest.param(name, marks=pytest.mark.slow)
    for name in cases.CASES
  ],
  indirect=True,
)


@pytest.fixture(scope="module", params=list(cases.CASES))
def case(request, tmp_path_factory):
  """(name, folder, golden values)."""
  name = request.param
  described = json.loads(str(GOLDEN[f"{name}/json"]))
  folder = tmp_path_factory.mktemp("hf") / name
  cases.write(folder, described["config"], described["shapes"])
  return name, folder, described


def test_logits_are_equal(case):
  name, folder, _ = case
  config, params = hf.load(folder)
  model = transformer(config)
  hidden = jax.jit(model.forward)(params, cases.TOKENS)
  got = logprobs.logits(model.head(params), hidden)
  want = GOLDEN[f"{name}/logits"]
  assert want.std() > 0.5
  np.testing.assert_allclose(got, want, atol=1e-4)


@IN_PART
def test_greedy_tokens_are_equal(case):
  name, folder, _ = case
  config, params = hf.load(folder)
  width = max(map(len, cases.PROMPTS))
  rows = [[*p, *[0] * (width - len(p))] for p in cases.PROMPTS]
  lengths = [len(p) for p in cases.PROMPTS]
  generation = generate(
    transformer(config),
    params,
    jnp.array(rows, jnp.int32),
    jnp.array(lengths),
    jax.random.split(jax.random.key(0), len(rows)),
    draw=sampler(temperature=0),
    max_new_tokens=cases.NEW,
    stop_ids=(),
  )
  tokens = np.asarray(generation.sequences.tokens)
  got = [row[n : n + cases.NEW] for row, n in zip(tokens, lengths)]
  np.testing.assert_array_equal(got, GOLDEN[f"{name}/greedy"])


@IN_PART
def test_gradients_of_dpo_are_equal(case):
  _, folder, described = case
  config, params = hf.load(folder)
  model = transformer(config)

  def loss(params):
    hidden = model.forward(params, cases.TOKENS)[:, :-1]
    logps = logprobs.token_logprobs(
      hidden, model.head(params), cases.TOKENS[:, 1:]
    )
    sums = logps[:, 5:].sum(-1)
    return -jax.nn.log_sigmoid(golden.BETA * (sums[0] - sums[1]))

  value, grads = jax.jit(jax.value_and_grad(loss))(params)
  np.testing.assert_allclose(value, described["loss"], rtol=1e-4)
  # Gradients are exported like weights, which tests names and layouts, too.
  out = dict(hf.exported(grads, config))
  assert out.keys() == described["gradients"].keys()
  for name, want in described["gradients"].items():
    step = cases.direction(name, out[name].shape)
    got = float((out[name] * step).sum())
    scale = float(np.linalg.norm(out[name]) * np.linalg.norm(step))
    assert abs(got - want) < 1e-4 * scale, (name, got, want)


def test_names_and_shapes_are_those_of_transformers(case):
  _, folder, described = case
  config = hf.read_config(folder)
  want = {name: tuple(shape) for name, shape in described["shapes"].items()}
  assert tensors(config, param_specs(config)) == want


def test_export_and_import_is_the_identity(case, tmp_path):
  _, folder, described = case
  config, params = hf.load(folder)
  for size in (10**9, 4000):  # one file, and several
    target = tmp_path / f"of-{size}"
    hf.save(params, config, target, like=folder, shard_bytes=size)
    again, same = hf.load(target)
    assert again == config
    jax.tree.map(np.testing.assert_array_equal, same, params)
  assert len(list(target.glob("*.safetensors"))) > 1
  written = json.loads((target / "config.json").read_text())
  length = "n_positions" if "gpt2" in str(folder) else "max_position_embeddings"
  for key in ("architectures", length, "eos_token_id"):
    assert written[key] == described["config"][key]


def test_transformers_opens_an_export(case, tmp_path):
  pytest.importorskip("torch", reason="PyTorch isn't installed")
  import torch
  import transformers

  name, folder, _ = case
  config, params = hf.load(folder)
  hf.save(params, config, tmp_path / "out", like=folder)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / "out", attn_implementation="eager"
  ).eval()
  with torch.no_grad():
    got = model(torch.tensor(cases.TOKENS, dtype=torch.long)).logits.numpy()
  np.testing.assert_allclose(got, GOLDEN[f"{name}/logits"], atol=1e-5)
