"""A stage that several runs of a sweep share is trained once."""

import json
import os

import jax
import numpy as np
import pytest

from jalign.experiment import identity, resume, share
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState
from tests.robustness import damage

OF = {"data.train": "a", "data.held_out": "b", "annotator.function": "c"}
SWEEP = '  c.sweep = (("loss.beta", (0.1, 0.5)),)\n  return c'


def _settings(beta, **changes):
  config = {
    "data": {"path": "d"},
    "stages": ("sft", "align"),
    "sft": {"loss": {"name": "sft"}, "steps": 2},
    "loss": {"name": "dpo", "beta": beta},
  }
  return parse(config | changes)


def _meta(settings, start="s"):
  stage = settings.stages[0]
  needs = identity.needed_by(settings, stage, OF)
  return resume.meta_of(stage, start, settings.seed, needs)


@pytest.fixture
def first(tmp_path):
  """A run that has finished its first stage."""
  run, settings = tmp_path / "first", _settings(0.1)
  identity.keep(run, {"made_of": OF, "went_on": []})
  checkpoints = Checkpoints(run / "sft" / "checkpoints")
  for step in (1, 2):
    params = {"w": np.full((2, 2), float(step), np.float32)}
    state = TrainState(np.int32(step), params, ())
    checkpoints.save(
      jax.tree.map(jax.numpy.asarray, state), data=step, meta=_meta(settings)
    )
  checkpoints.close()
  for name in ("metrics.jsonl", "results.json", "tensorboard/events"):
    path = run / "sft" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(name)
  return share.Sibling(run, settings)


def _take(first, tmp_path, settings, of=OF, steps=2, start="s"):
  mine = share.Sharing(tmp_path / "second", settings, of, [first])
  mine.take(settings.stages[0], _meta(settings, start), steps)
  return tmp_path / "second" / "sft"


def _files(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in folder.rglob("*")
    if p.is_file()
  }


def test_the_same_stage_is_taken(first, tmp_path, capsys):
  target = tmp_path / "second" / "sft"
  target.mkdir(parents=True)
  (target / "metrics.jsonl").write_text("of a run that was killed at step 0")
  assert _take(first, tmp_path, _settings(0.5)) == target
  assert "[sft] is that of first: taken" in capsys.readouterr().out
  want = _files(first.folder / "sft")
  del want["results.json"]
  assert _files(target) == want
  assert Checkpoints(target / "checkpoints").latest() == 2
  # Files that grow are copied, and existing files aren't taken again.
  with (target / "metrics.jsonl").open("a") as file:
    file.write("more")
  assert (first.folder / "sft/metrics.jsonl").read_text() == "metrics.jsonl"
  _take(first, tmp_path, _settings(0.5))
  assert (target / "metrics.jsonl").read_text() == "metrics.jsonlmore"


@pytest.mark.parametrize(
  "change",
  [
    {"settings": _settings(0.5, seed=1)},
    {"settings": _settings(0.5, mesh={"data": 1})},
    {"settings": _settings(0.5, wandb_project="x")},
    {"settings": _settings(0.5, batch_size=4)},
    {"settings": _settings(0.5, data={"path": "e"})},
    {"of": OF | {"data.train": "x"}},
    {"of": OF | {"data.held_out": "x"}},
    {"steps": 3},
    {"start": "another"},
  ],
  ids=range(9),
)
def test_another_stage_is_trained(first, tmp_path, change):
  given = {"settings": _settings(0.5)} | change
  assert not _take(first, tmp_path, **given).exists()


def test_what_a_stage_does_not_come_from_may_differ(first, tmp_path):
  settings = _settings(0.5, sample={"prompts": 3}, title="x")
  of = OF | {"annotator.function": "x"}
  assert _take(first, tmp_path, settings, of).exists()


def test_a_damaged_or_half_agreed_stage_is_trained(first, tmp_path):
  note = first.folder / identity.NAME
  whole = note.read_text()
  went_on = [identity.agreement(["data.held_out"])]
  for text in ("{", json.dumps({"made_of": OF, "went_on": went_on})):
    note.write_text(text)
    assert not _take(first, tmp_path, _settings(0.5)).exists()
  note.write_text(whole)
  damage.flipped(first.folder / "sft/checkpoints/2/params/manifest.ocdbt")
  assert not _take(first, tmp_path, _settings(0.5)).exists()


def test_stopped_anywhere_it_is_taken_whole_the_next_time(
  first, tmp_path, monkeypatch
):
  left, link = [0], os.link

  def stop(source, target):
    left[0] -= 1
    if left[0] == 0:
      raise KeyboardInterrupt
    link(source, target)

  monkeypatch.setattr(os, "link", stop)
  for left[0] in (1, 9, 17):
    with pytest.raises(KeyboardInterrupt):
      _take(first, tmp_path, _settings(0.5))
    assert not (tmp_path / "second" / "sft").exists()
  target = _take(first, tmp_path, _settings(0.5))
  assert Checkpoints(target / "checkpoints").latest() == 2
  assert [p.name for p in target.parent.iterdir()] == ["sft"]


def test_without_links_it_is_copied(first, tmp_path, monkeypatch):
  def none(source, target):
    raise OSError("no links here")

  monkeypatch.setattr(os, "link", none)
  target = _take(first, tmp_path, _settings(0.5))
  assert Checkpoints(target / "checkpoints").latest() == 2
  damage.flipped(target / "checkpoints/2/params/manifest.ocdbt")
  checkpoints = Checkpoints(first.folder / "sft" / "checkpoints")
  assert checkpoints.latest() == 2


@pytest.mark.slow
def test_a_sweep_trains_it_once_and_to_the_same_end(place):
  text = place.config.read_text()
  alone, _ = place.train("--config.loss.beta=0.5", workdir="alone")
  place.config.write_text(text.replace("  return c", SWEEP))
  folder, said = place.train()
  assert said.count("[sft] is that of") == 1
  assert "[sft] is that of loss.beta=0.1: taken" in said
  after = said.partition("=== loss.beta=0.5")[2]
  assert "[sft] resumes at step 2 of 2" in after
  params = [
    jax.device_get(
      trained_params(folders.model_of(run), make_mesh(), run / "align")
    )
    for run in (alone, folder / "loss.beta=0.5")
  ]
  jax.tree.map(np.testing.assert_array_equal, *params)
