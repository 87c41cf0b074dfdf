"""A process that can't write its part of a checkpoint ends all processes."""

import time

import pytest

from jalign.training.checkpoint import Checkpoints
from tests.processes.launch import finish, started
from tests.processes.runs import command, prepare, train

FLAGS = ("--config.steps=8", "--config.keep_newest=3")
BYTES = 12_000  # less than a process's part of the arrays; more than it prints


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_all_end_when_one_cannot_write(tmp_path, victim):
  """The error comes from a thread, while the others wait for the part."""
  prepare(tmp_path)
  arguments = command(tmp_path, "run", *FLAGS)
  limits = "tests.processes.limited", str(victim), "align", "6", str(BYTES)
  with started([*limits, *arguments]) as begun:
    begun[victim].wait_for("[limited]", timeout=300)
    since = time.monotonic()
    ends = finish(begun, timeout=120)
    assert time.monotonic() - since < 60
  states = tmp_path / "run" / "align" / "checkpoints"
  for end in ends:
    said = " ".join(end.said.split())
    assert end.code == 2, said
    assert f"process {victim} failed: {states}: the checkpoint of" in said
    assert "checkpoint of step 6 can't be written (File too large" in said
    assert "run the same command: it goes on from there" in said
  assert Checkpoints(states).steps() == [2, 4]
  said = train(tmp_path, "run", *FLAGS)[0].said
  assert "[align] resumes at step 4 of 8" in said
