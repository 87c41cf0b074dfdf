"""Only one process at a time may use a work folder."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from jalign.errors import UserError
from jalign.experiment.disk import lock

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOLDER = """
import pathlib, sys, time
from jalign.experiment.disk import lock
with lock.hold(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(600)
"""
# Many processes take the lock in turn. A marker shows if two hold it at once.
CONTENDER = """
import os, pathlib, sys
from jalign.errors import UserError
from jalign.experiment.disk import lock
folder = pathlib.Path(sys.argv[1])
marker, held = folder.with_name("marker"), 0
while held < 1000:
  try:
    with lock.hold(folder):
      os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
      held += 1
      os.unlink(marker)
  except UserError:
    pass
"""


def _start(script, folder):
  return subprocess.Popen(
    [sys.executable, "-c", script, str(folder)],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_the_second_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
  folder = tmp_path / "run"
  holder = _start(HOLDER, folder)
  assert holder.stdout.readline() == "held\n"
  with pytest.raises(UserError) as e, lock.hold(folder):
    pass
  said = str(e.value)
  assert f"process {holder.pid} on {socket.gethostname()}, started 20" in said
  assert str(folder) in said and "another --workdir" in said
  holder.send_signal(signal.SIGKILL)
  holder.communicate()
  assert (folder / lock.NAME).exists()  # only the file, which locks nothing
  with lock.hold(folder):
    assert str(os.getpid()) in (folder / lock.NAME).read_text()
  assert not any(folder.iterdir())


def test_the_command_line_refuses_before_it_does_anything(runs):
  folder = runs.folder / "held"
  holder = _start(HOLDER, folder)
  assert holder.stdout.readline() == "held\n"
  process = runs.start("jalign", *runs.command("offline", "held"))
  said, _ = process.communicate(timeout=600)
  holder.kill()
  holder.communicate()
  assert process.returncode == 2
  said = " ".join(said.split())
  assert said.startswith(f"jalign: error: {folder}: process {holder.pid} on ")
  assert [p.name for p in folder.iterdir()] == [lock.NAME]


def test_never_two_at_once(tmp_path):
  """This holds even while one process removes the file that another opens."""
  processes = [_start(CONTENDER, tmp_path / "run") for _ in range(3)]
  for process in processes:
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
  assert not [p for p in tmp_path.rglob("*") if p.name != "run"]


def test_only_folders_that_it_made_are_removed(tmp_path):
  with lock.hold(tmp_path / "a" / "b" / "c"):
    (tmp_path / "a" / "mine").write_text("")
  assert [p.name for p in (tmp_path / "a").iterdir()] == ["mine"]
  (tmp_path / "empty").mkdir()
  with lock.hold(tmp_path / "empty"):
    pass
  assert (tmp_path / "empty").exists()
