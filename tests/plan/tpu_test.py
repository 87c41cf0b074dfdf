"""A small model is compiled by the TPU's and the GPU's compilers on a CPU."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SMALL = {
  "stages": "('align',)",
  "model.num_hidden_layers": 2,
  "model.hidden_size": 256,
  "model.intermediate_size": 512,
  "model.num_attention_heads": 4,
  "model.num_key_value_heads": 2,
  "model.head_dim": 128,
  "model.dtype": "bfloat16",
  "tokenizer.vocab_size": 1024,
  "batch_size": 8,
  "max_new_tokens": 64,
  "sample.max_new_tokens": 64,
  "data.max_prompt_tokens": 64,
  "data.buckets": "(128,)",
}


def _plan(tmp_path, *flags):
  """The plan of a config on 4 devices, and what the command printed."""
  keys = [f"--config.{key}={value}" for key, value in SMALL.items()]
  out = tmp_path / "plan.json"
  command = [sys.executable, "-m", "jalign", "plan", f"--out={out}", *keys]
  done = subprocess.run(
    [*command, *flags],
    env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(out.read_text()), done.stdout


@pytest.fixture
def libtpu():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("the TPU compiler isn't installed: pip install libtpu")


def test_an_update_and_a_rollout_compile_for_a_tpu(libtpu, tmp_path):
  plan, said = _plan(
    tmp_path,
    "--config=ipo_md",
    "--topology=v5e:2x2",
    "--mesh=1x2x2",
    "--programs=update,rollout,step*",
  )
  programs = {p["kind"]: p for p in plan["programs"]}
  assert all(p["fits"] for p in plan["programs"]) and said.count("fits") == 3
  assert plan["usable_bytes"] == 15.75 * 2**30
  # Two models' bfloat16 caches: keys and values of 2 layers, a head of 128 on
  # each device, of half of the 16 rows of 128 tokens.
  cache = 2 * 2 * 2 * 128 * 2 * 8 * 128
  kept = programs["step of rollout"]["memory"]["cache"]
  assert 0 <= kept - cache <= 256  # and the rows' lengths
  gathered = {
    (c["kind"], c["dtype"]) for c in programs["update"]["collectives"]
  }
  assert ("all-gather", "bf16") in gathered
  assert programs["rollout"]["bound"] in ("compute", "memory", "links")


def test_a_program_that_is_too_large_is_refused(libtpu, tmp_path):
  """6.5 billion parameters, moments and a reference: 26 GB on each of 4."""
  plan, said = _plan(
    tmp_path,
    "--config=dpo",
    "--topology=v5e:2x2",
    "--mesh=1x4x1",
    "--programs=update",
    "--config.model.hidden_size=16384",
    "--config.model.intermediate_size=65536",
  )
  (program,) = plan["programs"]
  assert not program["fits"] and program["refused"]
  assert program["needs_bytes"] > 26e9
  assert "doesn't fit, the compiler refuses it" in said


def test_an_update_compiles_for_gpus(tmp_path):
  if importlib.util.find_spec("jax_cuda12_plugin") is None:
    pytest.skip(
      "the GPU compiler isn't installed: pip install --no-deps jax-cuda12-pjrt"
      " jax-cuda12-plugin nvidia-cuda-nvcc-cu12"
    )
  plan, said = _plan(
    tmp_path,
    "--config=dpo",
    "--topology=h200:4",
    "--mesh=1x4x1",
    "--programs=update",
  )
  (program,) = plan["programs"]
  assert program["fits"] and "attention: xla instead of auto" in said
  assert {"all-gather"} <= {c["kind"] for c in program["collectives"]}
