"""Whole runs from the command line."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jalign
from jalign import cli
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training.metrics import read_jsonl

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _params(run, stage="align"):
  config = folders.model_of(run)
  return jax.device_get(trained_params(config, make_mesh(), run / stage))


def _equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_leaves_what_it_promises(place, drawn, capsys):
  folder, said = place.train("--config.select=eval/loss")
  assert f"report: {folder / 'report.md'}" in said
  for name in ("report.md", "plots/accuracy.png", "tokenizer/tokenizer.json"):
    assert (folder / name).stat().st_size > 0
  table = (folder / "report.md").read_text().split("## Run")[1]
  assert "| starts from | fresh parameters | sft |" in table
  assert "| steps | 2 | 4 |" in table and f"| config | {place.config}" in (
    table.replace("\\", "")
  )
  assert f"jalign {jalign.__version__}, jax {jax.__version__} |" in table
  for stage, steps in (("sft", 2), ("align", 4)):
    rows = read_jsonl(folder / stage / "metrics.jsonl")
    assert [r["step"] for r in rows if "train/loss" in r] == list(
      range(1, steps + 1)
    )
    assert any("eval/loss" in r for r in rows)
    assert any((folder / stage / "tensorboard").iterdir())
    results = json.loads((folder / stage / "results.json").read_text())
    assert 0 <= results["eval/ranking_accuracy"]["mean"] <= 1
    assert len(results["samples"]) == 4
  first = next(
    r
    for r in read_jsonl(folder / "align" / "metrics.jsonl")
    if "eval/loss" in r
  )
  np.testing.assert_allclose(first["eval/loss"], np.log(2), rtol=1e-5)

  trained = _params(folder)
  _, said = place.train("--config.select=eval/loss")  # nothing is left to do
  assert "resumes at step 4 of 4" in said
  _equal(trained, _params(folder))

  cli.main(["sample", f"--model={folder}", "--prompt=q1:", "--count=2"])
  out = capsys.readouterr().out
  assert out.startswith("> q1:") and len(out.splitlines()) >= 3
  cli.main(["evaluate", f"--model={folder}", f"--against={folder}"])
  out = capsys.readouterr().out
  assert f"reward accuracy over {folder}: 50.0 %" in out  # all ties


def test_starting_from_another_run(place, plain):
  base = plain / "run"
  place.align_alone()
  lines = place.config.read_text().splitlines()
  lines = [x for x in lines if "c.model." not in x]
  place.config.write_text("\n".join(lines))
  run, _ = place.train(f"--config.init_from={base}", workdir="next")
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  first = next(r for r in rows if "eval/loss" in r)
  np.testing.assert_allclose(first["eval/loss"], np.log(2), rtol=1e-5)
  start, end = _params(base), _params(run)
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), start, end)
  assert 0 < max(jax.tree.leaves(moved)) < 0.1  # from there, not from scratch


@pytest.mark.slow
def test_seeds_and_sweeps_are_compared(place):
  text = place.config.read_text().replace(
    "  return c",
    '  c.seeds = (0, 1)\n  c.sweep = (("loss.beta", (0.1, 0.5)),)\n  return c',
  )
  place.config.write_text(text)
  folder, said = place.train()
  names = {p.name for p in folder.iterdir() if p.is_dir()} - {"plots"}
  assert names == {
    f"seed={s},loss.beta={b}" for s in (0, 1) for b in (0.1, 0.5)
  }
  report = (folder / "report.md").read_text()
  assert all(
    name.replace("_", "\\_") in report.replace("\\.", ".") for name in names
  )
  assert "comparison of 4 runs" in said


def test_precomputed_reference_trains_the_same(place, plain):
  a = plain / "run"
  b, _ = place.train("--config.reference=precompute", workdir="b")
  assert (b / "align" / "reference_logps.npz").exists()
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4),
    _params(a),
    _params(b),
  )


@pytest.mark.slow
def test_packed_rows_train_the_same(place):
  flags = ["--config.batch_size=16", "--config.reference=precompute"]
  a, _ = place.train(*flags, workdir="a")
  flags += ["--config.packing=40", "--config.share_prefix=True"]
  b, said = place.train(*flags, workdir="b")
  assert re.search(r"\[sft\] packed \d+ sequences into \d+ rows, \d+%", said)
  assert re.search(r"\[align\] packed \d+ sequences into \d+ rows", said)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4),
    _params(a),
    _params(b),
  )


def test_an_online_stage(place, capsys):
  judge = place.folder / "reward.py"
  judge.write_text("def reward(prompt, response):\n  return -len(response)\n")
  text = place.config.read_text().replace(
    "c.loss.beta = 0.1", 'c.loss = dict(tau=0.5)\n  c.algorithm = "ipo_md"'
  )
  place.config.write_text(text)
  folder, said = place.train(f"--config.annotator.function={judge}:reward")
  rows = read_jsonl(folder / "align" / "metrics.jsonl")
  steps = [r for r in rows if "train/loss" in r]
  assert {
    "rollouts/response_tokens",
    "rollouts/preference_certainty",
  } <= set(steps[-1])
  # "Chosen" is the response that the annotator prefers, even with soft labels.
  held_out = [r for r in rows if "samples/win_rate" in r]
  assert [r["step"] for r in held_out] == [0, 4]
  results = json.loads((folder / "align" / "results.json").read_text())
  assert 0 <= results["samples/win_rate"]["mean"] <= 1
  # The reward is logged, too, for training samples and for held-out ones.
  assert all(
    r["rollouts/reward_mean"] <= 0 <= r["rollouts/reward_std"] for r in steps
  )
  assert all("rollouts/reward_std_within_prompt" in r for r in steps)
  assert all(r["samples/reward_mean"] <= 0 for r in held_out)
  lengths = [len(text) for text in results["samples"]]
  reward = results["samples/reward_mean"]
  assert reward["mean"] == pytest.approx(-np.mean(lengths))
  assert results["samples/reward_std"] == pytest.approx(np.std(lengths, ddof=1))
  page = (folder / "report.md").read_text()
  assert "| reward | sd of the reward |" in page and "Mean reward: " in page
  assert f"reward {reward['mean']:.2f} ±" in said
  cli.main(["evaluate", f"--model={folder}", f"--against={folder}"])
  said = capsys.readouterr().out
  assert f"win rate over {folder}: " in said
  assert said.count(f"  reward of {folder}: -") == 2 and "; sd " in said
  assert (folder / "plots" / "win_matrix.png").exists()


@pytest.mark.slow
def test_sigterm_saves_and_the_rest_is_the_same_to_the_bit(place):
  flags = ["--config.steps=60", "--config.save_every=0"]
  whole, _ = place.train(*flags, workdir="whole")
  command = [
    sys.executable,
    "-m",
    "jalign",
    *place.command(*flags, "--stopped_exit=75", workdir="cut"),
  ]
  process = subprocess.Popen(
    command,
    cwd=ROOT,
    env=os.environ | {"PYTHONUNBUFFERED": "1"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  cut = place.folder / "cut"
  metrics = cut / "align" / "metrics.jsonl"
  deadline = time.time() + 600
  while not (metrics.exists() and len(read_jsonl(metrics)) > 5):
    assert time.time() < deadline and process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  said, _ = process.communicate(timeout=600)
  assert process.returncode == 75, said
  assert "run the same command to resume" in said
  steps = len([r for r in read_jsonl(metrics) if "train/loss" in r])
  assert 0 < steps < 60
  assert not (cut / "report.md").exists()

  _, said = place.train(*flags, workdir="cut")
  assert f"resumes at step {steps} of 60" in said
  _equal(_params(whole), _params(cut))
  losses = [
    [
      r["train/loss"]
      for r in read_jsonl(x / "align" / "metrics.jsonl")
      if "train/loss" in r
    ]
    for x in (whole, cut)
  ]
  assert losses[0] == losses[1] and len(losses[0]) == 60
