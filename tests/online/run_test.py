"""Whole runs of algorithms of one's own, stopped and resumed."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jalign import cli
from jalign.online import ALGORITHMS
from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import place  # noqa: F401
from tests.online import toys

JUDGE = """
import os, signal

left = int(os.environ.get("STOP_AFTER_REWARDS", "0"))


def reward(prompt, response):
  global left
  left -= 1
  if not left:
    os.kill(os.getpid(), signal.SIGTERM)
  return float(response.count("e")) + len(response) / 100
"""


def _arrays(run, step=None):
  """Every array in a checkpoint of the last stage, by name."""
  steps = (run / "align" / "checkpoints").iterdir()
  last = max(int(p.name) for p in steps if p.name.isdigit())
  folder = run / "align" / "checkpoints" / str(last if step is None else step)
  arrays = {}
  for item in ("params", "optimizer"):
    with ocp.StandardCheckpointer() as reader:
      tree = reader.restore((folder / item).resolve())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
  return arrays


def _rows(run):
  """Metrics of the last stage, without times."""
  return [
    {k: v for k, v in row.items() if not is_clock(k)}
    for row in read_jsonl(run / "align" / "metrics.jsonl")
  ]


@pytest.fixture(name="toy")
def _toy(place, monkeypatch):  # noqa: F811
  """Adds the toy algorithms; returns a function that makes a run of one."""
  monkeypatch.setitem(ALGORITHMS, "toy_clipped", toys.CLIPPED)
  monkeypatch.setitem(ALGORITHMS, "toy_adaptive", toys.ADAPTIVE)
  judge = place.folder / "judge.py"
  judge.write_text(JUDGE)
  place.align_alone()
  plain = place.config.read_text()

  def write(algorithm, **online):
    changed = plain.replace(
      "c.loss.beta = 0.1",
      f"c.loss, c.algorithm = ConfigDict(), {algorithm!r}\n"
      f"  c.algorithm_settings = ConfigDict({online!r})\n"
      f"  c.annotator.function = {str(judge)!r} + ':reward'",
    )
    place.config.write_text(
      "from ml_collections import ConfigDict\n"
      + changed.replace("c.batch_size = 8", "c.batch_size = 16")
    )
    return place

  return write


@pytest.mark.parametrize(
  "algorithm, online, flags, stop",
  [
    # The trial takes 4 rewards, held-out samples before the first step take 12,
    # and a step's responses 16, so the signal comes in the second step.
    pytest.param(
      "toy_clipped",
      {"advantage_scale": 3.0},
      (),
      16 + 64 + 9,
      marks=pytest.mark.slow,
    ),
    (
      "toy_adaptive",
      {"target": 0.01, "every": 1},
      ("--config.mesh.fsdp=2",),
      16 + 32 + 9,
    ),
  ],
)
def test_a_stopped_run_ends_as_if_it_were_not(
  toy, monkeypatch, algorithm, online, flags, stop
):
  place = toy(algorithm, **online)  # noqa: F811
  whole, said = place.train(*flags, workdir="whole")
  monkeypatch.setenv("STOP_AFTER_REWARDS", str(stop))
  cut, said = place.train(*flags, workdir="cut")
  assert "saved at step 2; run the same command to resume" in said
  half = _arrays(cut)
  monkeypatch.delenv("STOP_AFTER_REWARDS")
  _, said = place.train(*flags, workdir="cut")
  assert "[align] resumes at step 2 of 4" in said
  got, want = _arrays(cut), _arrays(whole)
  assert got.keys() == want.keys()
  for name, array in want.items():
    np.testing.assert_array_equal(got[name], array, name)
  assert _rows(whole) == _rows(cut)
  assert len(_rows(whole)) == 4 + 2  # the steps, and two evaluations
  assert int(want["optimizer['step']"]) == 4
  kept = {name for name in want if "['carry']" in name}
  if algorithm == "toy_clipped":
    counts = [v for n, v in want.items() if n.endswith("count']")]
    counts += [v for n, v in want.items() if n.endswith(".count")]
    assert counts and all(int(count) == 16 for count in counts)
    assert not kept
  else:
    assert any("coefficient" in name for name in kept)
    moved = [
      name for name in kept if not np.array_equal(half[name], want[name])
    ]
    assert len(moved) > len(kept) / 2
    meta = json.loads((whole / "config.json").read_text())
    assert meta["algorithm_settings"] == online


def test_a_schedule_goes_from_update_to_update(toy):
  """Without moments an update moves parameters by the learning rate."""
  place = toy("toy_clipped")  # noqa: F811
  run, _ = place.train(
    *("--config.steps=2", "--config.save_every=1"),
    *("--config.optimizer.schedule=linear", "--config.optimizer.b1=0.0"),
    *("--config.optimizer.b2=0.0", "--config.optimizer.eps=1e-30"),
    *("--config.optimizer.final_fraction=0.0",),
    *("--config.optimizer.max_grad_norm=0.0",),
    "--config.optimizer.learning_rate=0.0625",
  )
  name = "train/learning_rate"
  rates = [r[name] for r in _rows(run) if name in r]
  # Four updates a step have 8, 7, 6, 5 eighths of the rate, then 4, 3, 2, 1.
  assert rates == [0.0625, 0.0625 / 2]
  before, after = _arrays(run, 1), _arrays(run, 2)
  moved = [
    np.abs(after[name] - x).max()
    for name, x in before.items()
    if name.startswith("params")
  ]
  assert max(moved) == pytest.approx(0.0625 * (4 + 3 + 2 + 1) / 8, rel=1e-4)


def test_what_a_config_gets_wrong_is_said(toy):
  for online, text in (
    ({"target": 0.1, "evry": 3}, "config.algorithm_settings.evry"),
    ({}, "algorithm_settings.target: needs a value"),
    ({"target": 0.1, "minibatches": 3}, "don't divide into 3 minibatches"),
  ):
    place = toy("toy_adaptive", **online)  # noqa: F811
    said = place.fails(place.command())
    assert text in said
  place = toy("toy_clipped", advantage_scale=-1.0)
  said = place.fails(place.command())
  assert "config.algorithm_settings.advantage_scale: -1.0 must be > 0" in said
  assert not (place.folder / "run").exists()
  place = toy("", target=0.1)
  text = place.config.read_text().replace(
    "ConfigDict(), ''", "{'name': 'sft'}, ''"
  )
  place.config.write_text(text)
  said = place.fails(place.command())
  assert "hyperparameters of an algorithm, and the stage has none" in said


def test_a_low_rank_change_has_its_own_carry(toy, monkeypatch, capsys):
  place = toy("toy_adaptive", target=0.01, every=1)  # noqa: F811
  run, _ = place.train("--config.lora.rank=2", "--config.steps=2")
  arrays = _arrays(run)
  shapes = {
    name.partition("['opponent']")[2]: array.shape
    for name, array in arrays.items()
    if "['opponent']" in name
  }
  trained = {
    name.removeprefix("params"): array.shape
    for name, array in arrays.items()
    if name.startswith("params")
  }
  assert shapes == trained
  # Readers of the run's folder don't need the algorithm's row.
  monkeypatch.delitem(ALGORITHMS, "toy_adaptive")
  cli.main(["sample", f"--model={run}", "--prompt=q1:", "--max_new_tokens=2"])
  assert "> q1:" in capsys.readouterr().out
  said = place.fails(place.command("--config.lora.rank=2"))
  assert "config.algorithm: unknown algorithm 'toy_adaptive'" in said
