"""Commands' files: temporary names, others' files untouched, and errors."""

import contextlib
import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from jalign import files
from jalign.errors import UserError
from jalign.experiment.commands import training_page as dynamics
from jalign.experiment.disk import lock

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITER = """
import pathlib, sys, time
from jalign import files
with files.appearing(sys.argv[1]) as place:
  place.mkdir()
  (place / "half").write_text("half")
  print("begun", flush=True)
  time.sleep(600)
"""


@contextlib.contextmanager
def _other(target):
  """Starts another process that writes the same target."""
  process = subprocess.Popen(
    [sys.executable, "-c", WRITER, str(target)],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "begun\n"
  yield process
  process.kill()
  process.wait()
  process.stdout.close()


def _write(target, text="new", **options):
  with files.appearing(target, **options) as place:
    place.write_text(text)


def test_only_the_target_is_touched(tmp_path):
  """This holds even if users' files have usual names of partial files."""
  names = ("x.partial", "x.tmp", ".x", ".jalign", "x~")
  for name in names:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text(name)
  for target in (tmp_path / "x", tmp_path / "new" / "x"):
    with files.appearing(target) as place:
      assert place.name == "x" and not place.exists() and not target.exists()
      place.mkdir()
      (place / "a").write_text("a")
    assert [p.name for p in target.iterdir()] == ["a"]
  files.write_whole(tmp_path / "file", b"old")
  files.write_whole(tmp_path / "file", b"new")
  assert (tmp_path / "file").read_bytes() == b"new"
  assert {p.name for p in tmp_path.iterdir()} == {*names, "x", "new", "file"}
  assert all((tmp_path / n / "mine").read_text() == n for n in names)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
  target = tmp_path / "a" / "file"
  with pytest.raises(error), files.appearing(target) as place:
    place.write_text("half")
    raise error
  assert not any(tmp_path.iterdir())  # not even the folder that was made
  files.write_whole(target, b"old")
  with pytest.raises(error), files.appearing(target) as place:
    place.write_text("half")
    raise error
  assert target.read_text() == "old"
  assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_two_processes_on_one_target_and_one_that_was_killed(tmp_path):
  target = tmp_path / "x"
  with _other(target) as other:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"{target}: another process"):
      _write(target)
    assert sorted(tmp_path.rglob("*")) == before
    _write(target, alone=False)  # as a run does in the folder that it locks
    _write(tmp_path / "y")
    assert set(before) < set(tmp_path.rglob("*"))
    other.send_signal(signal.SIGKILL)
    other.wait()
    left = [p for p in tmp_path.iterdir() if files.is_unfinished(p.name)]
    assert len(left) == 1
    _write(tmp_path / "z")  # another target isn't affected
    assert left[0].exists()
    _write(target, "newer")
  assert target.read_text() == "newer"
  assert {p.name for p in tmp_path.iterdir()} == {"x", "y", "z"}


def test_a_link_is_followed_and_a_device_is_never_replaced(tmp_path):
  (tmp_path / "real").write_text("old")
  link = tmp_path / "link"
  link.symlink_to("real")
  files.write_whole(link, b"new")
  assert link.is_symlink() and (tmp_path / "real").read_text() == "new"
  os.mkfifo(tmp_path / "pipe")
  for place in (tmp_path, tmp_path / "pipe"):
    with pytest.raises(UserError, match=f"--out={place}: isn't a file"):
      files.check_output(place, "--out", {})


def test_an_output_that_is_an_input(tmp_path):
  (tmp_path / "in").mkdir()
  data = tmp_path / "in" / "data"
  data.write_text("mine")
  (tmp_path / "soft").symlink_to(data)
  (tmp_path / "hard").hardlink_to(data)
  (tmp_path / "folder").symlink_to("in")
  for name in ("in/data", "soft", "hard", "folder/data", "in/../soft"):
    with pytest.raises(UserError, match=f"is --data={data}, which is read"):
      files.check_output(tmp_path / name, "--out", {"--data": data})
  inside = {"--model": tmp_path / "in", "--adapter": "org/name"}
  for name in ("in/new", "folder/new", "in/a/b"):
    with pytest.raises(UserError, match="lies in --model=") as e:
      files.check_output(tmp_path / name, "--to", inside, folder=True)
    assert f"--to={tmp_path / name}: " in str(e.value)
  files.check_output(tmp_path / "in2", "--to", inside, folder=True)
  files.check_output(tmp_path / "other", "--out", {"--data": data})
  with pytest.raises(UserError, match="already exists"):
    files.check_output(tmp_path / "in", "--to", {}, folder=True)


def test_a_place_that_cannot_be_written_is_found_first(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"file: .*written \(Not a directory"):
    files.check_output(tmp_path / "file" / "x", "--out", {})
  monkeypatch.setattr(os, "access", lambda *_: False)  # as on a read-only disk
  with pytest.raises(UserError, match="Make the folder writable") as e:
    files.check_output(tmp_path / "a" / "x", "--out", {})
  assert str(e.value).startswith(f"{tmp_path}: {tmp_path / 'a' / 'x'} can't be")


def _safetensors(path):
  safetensors.numpy.save_file({"x": np.zeros(10_000)}, path)


def _parquet(path):
  table = pa.table({"x": np.random.default_rng(0).random(20_000)})
  with pq.ParquetWriter(path, table.schema) as writer:
    writer.write_table(table)


def _plain(path):
  path.write_bytes(bytes(80_000))


@pytest.mark.parametrize("write", [_safetensors, _parquet, _plain])
def test_every_librarys_full_disk(tmp_path, write):
  """The system limits the size of a file."""
  target = tmp_path / "x"
  _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
  try:
    with (
      pytest.raises(UserError) as e,
      files.telling(tmp_path, lambda: "Nothing was written.", again=""),
      files.appearing(target) as place,
    ):
      write(place)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert str(e.value).startswith(
    f"{tmp_path}: {target} can't be written (File too large; "
  )
  assert str(e.value).endswith(
    "MiB are free). Nothing was written. Free some space, then run the same"
    " command again."
  )
  assert not any(tmp_path.iterdir())


def test_the_path_that_failed_is_blamed(tmp_path):
  """It isn't the folder that happened to be written at the time."""
  full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/log")
  with (
    pytest.raises(UserError) as e,
    files.telling(tmp_path, lambda: "Saved: all."),
  ):
    raise full
  assert str(e.value).startswith("/elsewhere: /elsewhere/log can't be written")
  assert str(tmp_path) not in str(e.value) and "Saved: all." in str(e.value)
  closed = OSError(errno.EACCES, os.strerror(errno.EACCES), "/elsewhere/data")
  with (
    pytest.raises(PermissionError),
    files.telling(tmp_path, lambda: ""),
  ):
    raise closed


def test_a_page_takes_no_folder_of_others(tmp_path):
  run, out = tmp_path / "run", tmp_path / "page"
  (run / "dynamics").mkdir(parents=True)
  (run / "run.json").write_text("{}")
  for place in (run, run / "plots", run / "dynamics" / "more"):
    with pytest.raises(UserError, match="lies in the folder of the run"):
      dynamics.report_runs([run], place)
  out.mkdir()
  (out / "report.md").write_text("an older page")
  (out / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match=r"other things .* notes\.txt"):
    dynamics.report_runs([run], out)
  (out / "notes.txt").unlink()
  with (
    lock.hold(out),
    pytest.raises(UserError, match=r"is writing .* another --out\."),
  ):
    dynamics.report_runs([run], out)
  with pytest.raises(UserError, match=r"config\.json"):  # what it reads next
    dynamics.report_runs([run], out)
  assert (out / "report.md").read_text() == "an older page"
