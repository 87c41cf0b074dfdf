"""Full and read-only disks: clear errors, nothing lost, and resumption."""

import errno
import os
import pathlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment.disk import lock
from jalign.pages import style
from jalign.training import manifest
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState
from tests.robustness.points import POINTS
from tests.robustness.runs import check_equal

# A place where something is written, and the disk's error there.
WRITES = {
  "half of config.json": errno.ENOSPC,
  "half of tokenizer.json": errno.EDQUOT,
  "half of data.json": errno.EROFS,
  "half of a row of metrics": errno.ENOSPC,
  "its first item written": errno.ENOSPC,
  "before the manifest": errno.EDQUOT,
  "half of the manifest": errno.ENOSPC,
  "before the rename": errno.EROFS,
  "half of an old one deleted": errno.EROFS,
  "half of results.json": errno.EFBIG,
  "half of reference_logps.npz": errno.ENOSPC,
  "plots": errno.ENOSPC,
  "half of report.md": errno.EDQUOT,
}


def _state(step):
  return TrainState(jnp.int32(step), {"w": jnp.full(4, float(step))}, ())


def _check_restored(checkpoints, step):
  restored = checkpoints.restore(_state(0))
  jax.tree.map(np.testing.assert_array_equal, restored.state, _state(step))


def test_too_little_space_is_found_before_anything_is_written(
  tmp_path, monkeypatch
):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(2), data=None, meta={})
  checkpoints.wait()
  before = sorted(tmp_path.rglob("*"))
  with monkeypatch.context() as patch:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**19)
    patch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError) as e:
      checkpoints.save(_state(4), data=None, meta={})
  said = str(e.value)
  assert f"{tmp_path}: the checkpoint of step 4 can't be written" in said
  assert "1.0 MiB are needed; 0.5 MiB are free" in said
  assert "Free some space, then run the same command" in said
  assert sorted(tmp_path.rglob("*")) == before
  _check_restored(Checkpoints(tmp_path), 2)
  checkpoints.save(_state(4), data=None, meta={})  # there is space again
  checkpoints.close()
  _check_restored(Checkpoints(tmp_path), 4)


@pytest.mark.parametrize("ask", ["check", "wait", "close", "save"])
def test_the_error_of_a_save_in_the_background_is_not_lost(
  tmp_path, monkeypatch, ask
):
  def full(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(_state(2), data=None, meta={})
  checkpoints.wait()
  monkeypatch.setattr(manifest, "write", full)
  checkpoints.save(_state(4), data=None, meta={})  # returns at once
  if ask == "check":  # of a save that has ended already
    while checkpoints._manager.is_saving_in_progress():
      pass
  asked = {"save": lambda: checkpoints.save(_state(6), data=None, meta={})}
  with pytest.raises(UserError, match=r"step 4 can't be written \(No space"):
    asked.get(ask, getattr(checkpoints, ask))()
  assert Checkpoints(tmp_path).steps() == [2]
  _check_restored(Checkpoints(tmp_path), 2)


def test_a_work_folder_that_cannot_be(tmp_path, monkeypatch):
  file = tmp_path / "file"
  file.write_text("mine")
  for folder in (file, file / "run"):
    with (
      pytest.raises(UserError, match="is a file, or lies below one"),
      lock.hold(folder),
    ):
      pass
  assert file.read_text() == "mine"

  for name, number in (("mkdir", errno.EROFS), ("open", errno.EACCES)):

    def closed(self, *args, number=number, **kwargs):
      raise OSError(number, os.strerror(number), str(self))

    with monkeypatch.context() as patch:
      patch.setattr(pathlib.Path, name, closed)
      with pytest.raises(UserError) as e, lock.hold(tmp_path / "run"):
        pass
    said = str(e.value)
    assert os.strerror(number) in said and "Make the folder writ" in said
    assert str(tmp_path / "run") in said


def test_a_plot_is_whole_or_what_it_was(tmp_path, monkeypatch):
  def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  path = tmp_path / "plots" / "a.png"
  style.save_figure(style.new_figure(2, 1, "old"), path)
  before = path.read_bytes()
  assert before.startswith(b"\x89PNG")
  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    style.save_figure(style.new_figure(2, 1, "new"), path)
  assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_a_file_that_cannot_grow(runs):
  """The system limits the size, so every library really fails."""
  limit = 8_900  # bytes; the optimizer has a file of 9,095
  point = {"target": "limit", "bytes": limit}
  code, said = runs.drive(point, "offline", "limited")
  assert code == 2, said
  said = " ".join(said.split())
  assert (
    "jalign: error: " in said and "can't be written (File too large" in said
  )
  assert "MiB are free). Nothing is saved." in said
  runs.train("offline", "limited")
  check_equal(runs.whole("offline"), runs.folder / "limited")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
def test_a_failed_write(runs, name):
  whole, folder = runs.whole("offline"), f"full {name}"
  point = POINTS[name].to_dict() | {"error": WRITES[name]}
  code, said = runs.drive(point, "offline", folder)
  assert code == 2, said
  last = " ".join(said.rpartition("jalign: error: ")[2].split())
  assert f"can't be written ({os.strerror(WRITES[name])}" in last
  assert str(runs.folder / folder) in last and "are free" in last
  assert "Saved: " in last or "Nothing is saved." in last
  assert "run the same command: it goes on from there." in last
  runs.train("offline", folder)
  check_equal(whole, runs.folder / folder)


@pytest.fixture
def small_disk(tmp_path):
  """(folder of a mounted disk of some KiB, function that resizes the disk)."""

  def mount(*options):
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(tmp_path)]
    return subprocess.run(command, capture_output=True).returncode == 0

  if os.geteuid() or not mount("-o", "size=64k"):
    pytest.skip("only root may mount a small disk")
  yield tmp_path, lambda size: mount("-o", f"remount,size={size}k")
  subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up(runs, small_disk):
  """A run gets more space each time, until it has enough."""
  folder, resize = small_disk
  link, outcomes = runs.folder / "small", []
  link.symlink_to(folder / "run")
  (folder / "run").mkdir()
  for size in (20, 64, 1200, 1500, 1800, 2100, 2600, 20_000):
    assert resize(size)
    process = runs.start("jalign", *runs.command("offline", "small"))
    said, _ = process.communicate(timeout=900)
    outcomes.append(process.returncode)
    if process.returncode:
      assert process.returncode == 2, said
      assert "can't be written (No space left on device" in " ".join(
        said.split()
      )
  assert outcomes[-1] == 0 and outcomes.count(2) >= 4
  check_equal(runs.whole("offline"), folder / "run")
