"""A checkpoint is read whole or not at all, and lines tell about damage."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import cli
from jalign.errors import UserError
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training.checkpoint import Checkpoints
from jalign.training.manifest import NAME
from jalign.training.state import TrainState
from tests.robustness import damage
from tests.robustness.runs import check_equal


def _state(step):
  rng = np.random.default_rng(step)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  moments = {"mu": draw(3, 4)}
  return TrainState(jnp.int32(step), {"w": draw(3, 4), "b": draw(4)}, moments)


def _save(folder, *steps):
  checkpoints = Checkpoints(folder)
  for step in steps:
    checkpoints.save(_state(step), data=f"at {step}", meta={})
  checkpoints.close()


def _check(restored, step):
  assert restored.data == f"at {step}"
  jax.tree.map(np.testing.assert_array_equal, restored.state, _state(step))


def _diagonal(names):
  """Every file with one kind of damage, and the manifest with all kinds."""
  kinds = len(damage.KINDS)
  pairs = [(damage.KINDS[i % kinds], name) for i, name in enumerate(names)]
  manifests = [name for name in names if name.name == NAME]
  return pairs + [(kind, name) for kind in damage.KINDS for name in manifests]


def _whole_grid(names):
  return [(kind, name) for kind in damage.KINDS for name in names]


@pytest.mark.parametrize(
  "grid", [_diagonal, pytest.param(_whole_grid, marks=pytest.mark.slow)]
)
def test_any_damage_to_any_file_falls_back(tmp_path, capsys, grid):
  _save(tmp_path / "sound", 2, 4)
  names = [
    path.relative_to(tmp_path / "sound")
    for path in damage.files(tmp_path / "sound" / "4")
  ]
  assert len(names) > 20
  for kind, name in grid(names):
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "sound", run)
    kind(run / name)
    restored = Checkpoints(run).restore(_state(0))
    said = capsys.readouterr().out
    if str(name.relative_to("4")) in damage.UNREAD:
      _check(restored, 4)
    else:
      _check(restored, 2)
      assert f"{run}: the checkpoint of step 4 is damaged: " in said
      # A flipped bit in the manifest may be in the name of another file.
      named = str(name.relative_to("4"))
      assert named in said or (named, kind) == (NAME, damage.flipped)
      assert said.endswith("; step 2 is used instead\n")
    shutil.rmtree(run)


def test_a_damaged_checkpoint_is_replaced_by_the_run_that_resumes(tmp_path):
  _save(tmp_path, 2, 4)
  for path in damage.files(tmp_path / "4"):
    damage.flipped(path)
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.latest() == 2
  checkpoints.discard_after(2)
  _save(tmp_path, 4, 6)
  assert Checkpoints(tmp_path).steps() == [4, 6]
  shutil.rmtree(tmp_path / "6")
  _check(Checkpoints(tmp_path).restore(_state(0)), 4)


@pytest.mark.parametrize("kind", damage.KINDS)
def test_saving_goes_on_beside_damaged_ones(tmp_path, kind):
  """So it is even if no file that orbax reads is left."""
  _save(tmp_path, 2, 4)
  for path in damage.files(tmp_path / "2"):
    kind(path)
  _save(tmp_path, 6, 8)
  assert Checkpoints(tmp_path).steps() == [6, 8]
  _check(Checkpoints(tmp_path).restore(_state(0)), 8)


def test_where_none_is_whole_nothing_is_loaded_and_nothing_deleted(tmp_path):
  _save(tmp_path, 2, 4)
  damage.flipped(next((tmp_path / "2" / "params" / "d").iterdir()))
  (tmp_path / "4" / "manifest.json").unlink()
  before = sorted(tmp_path.rglob("*"))
  checkpoints = Checkpoints(tmp_path)
  for read in (
    checkpoints.latest,
    lambda: checkpoints.restore(_state(0)),
    lambda: checkpoints.restore_params(_state(0).params),
  ):
    with pytest.raises(UserError) as e:
      read()
    said = str(e.value)
    assert "no whole checkpoint is left" in said and str(tmp_path) in said
    assert "step 4 is damaged: manifest.json can't be read" in said
    assert re.search(r"step 2 is damaged: params/d/\w+ has another SHA", said)
    assert "Bring back a copy" in said
  assert sorted(tmp_path.rglob("*")) == before


def test_parameters_need_no_optimizer(tmp_path, capsys):
  _save(tmp_path, 2, 4)
  shutil.rmtree(tmp_path / "4" / "optimizer")
  params = Checkpoints(tmp_path).restore_params(_state(0).params)
  jax.tree.map(np.testing.assert_array_equal, params, _state(4).params)
  assert not capsys.readouterr().out
  _check(Checkpoints(tmp_path).restore(_state(0)), 2)


def test_one_checkpoint_is_too_few_to_keep(tmp_path):
  with pytest.raises(ValueError, match="keep is 1"):
    Checkpoints(tmp_path, keep=1)


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def run(runs, tmp_path):
  """A copy of a finished run."""
  return shutil.copytree(runs.whole("offline"), tmp_path / "run")


def _fails(arguments, capsys):
  with pytest.raises(SystemExit) as e:
    cli.main(arguments)
  assert e.value.code == 2
  said = capsys.readouterr().err
  assert said.startswith("jalign: error:") and "Traceback" not in said
  return " ".join(said.split())


def test_convert_and_init_from_fall_back_and_say_so(run, capsys):
  best = sorted((run / "align" / "best").iterdir(), key=lambda p: int(p.name))
  assert len(best) == 2
  damage.truncated(next((best[1] / "params" / "d").iterdir()))
  params = trained_params(folders.model_of(run), make_mesh(), run / "align")
  said = capsys.readouterr().out
  assert f"the checkpoint of step {best[1].name} is damaged: params/d/" in said
  assert f"step {best[0].name} is used instead" in said
  like = jax.tree.map(jnp.zeros_like, params)
  shutil.rmtree(best[1])
  again = Checkpoints(run / "align" / "best").restore_params(like)
  jax.tree.map(np.testing.assert_array_equal, params, again)
  # If no best state is left, the last state isn't taken for it.
  damage.emptied(best[0] / "meta" / "metadata")
  said = _fails(["convert", f"--model={run}", f"--to={run}-x"], capsys)
  assert "no whole checkpoint is left" in said and "best" in said


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_resumed_from_an_older_one_it_ends_the_same(runs, mode, tmp_path):
  name = f"damaged-{mode}"
  run = shutil.copytree(runs.whole(mode), runs.folder / name)
  # The config doesn't name the folder, so that a copy is the same run.
  damage.flipped(next((run / "align/checkpoints/6/optimizer/d").iterdir()))
  said = runs.train(mode, name)
  assert "the checkpoint of step 6 is damaged: optimizer/d/" in said
  assert "step 4 is used instead" in said and "resumes at step 4 of 6" in said
  check_equal(runs.whole(mode), run)


def test_a_run_without_a_whole_checkpoint_does_not_start_again(run, runs):
  """Starting again would delete files that may still be rescued by hand."""
  for path in (run / "align" / "checkpoints").iterdir():
    damage.truncated(path / "manifest.json")
  shutil.copytree(run, runs.folder / "hopeless")
  before = sorted((runs.folder / "hopeless" / "align").rglob("*"))
  process = runs.start("jalign", *runs.command("offline", "hopeless"))
  said, _ = process.communicate(timeout=900)
  assert process.returncode == 2 and "Traceback" not in said
  assert "no whole checkpoint is left" in " ".join(said.split())
  assert sorted((runs.folder / "hopeless" / "align").rglob("*")) == before
