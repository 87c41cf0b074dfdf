"""Runs of several processes that are asked to stop, or lose a process."""

import re
import signal

import pytest

from jalign.training.checkpoint import Checkpoints
from tests.processes import counting
from tests.processes.launch import finish, launch, started

TOY = "tests.processes.counting"


def test_a_stop_of_one_process_stops_all_at_one_step(tmp_path):
  """All save once; one process goes on from there, to the same bits."""
  with started([TOY, str(tmp_path), "100000", "0.05"]) as begun:
    begun[1].wait_for("step 4.")
    begun[1].process.send_signal(signal.SIGTERM)
    ends = finish(begun, timeout=30)
  assert [end.code for end in ends] == [0, 0], ends
  (step,) = Checkpoints(tmp_path).steps()
  for end in ends:
    assert f"stopped and saved at step {step}" in end.said
  numbers = counting.run(tmp_path, step + 9, 0, stop=lambda: False)
  assert numbers == counting.after(step + 9)
  assert numbers != counting.after(step + 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_all_processes_at_once(tmp_path, number):
  """A scheduler and a terminal send the signal to every process."""
  with started([TOY, str(tmp_path), "100000", "0.05"], processes=4) as begun:
    begun[3].wait_for("step 4.")
    for each in begun:
      each.process.send_signal(number)
    ends = finish(begun, timeout=30)
  assert [end.code for end in ends] == [0] * 4, ends
  (step,) = Checkpoints(tmp_path).steps()
  for end in ends:
    assert f"stopped and saved at step {step}" in end.said


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 2])
def test_a_process_that_is_killed_is_named_by_the_others(tmp_path, dead):
  """They end by themselves; process 0 has the service of all."""
  arguments = [TOY, str(tmp_path)]
  launch([*arguments, "5", "0"], processes=4)
  with started([*arguments, "100000", "0.05"], processes=4) as begun:
    for each in begun:
      each.wait_for("step 60.")  # for three seconds: a sign tells of a step
    pid = begun[dead].process.pid
    begun[dead].process.kill()
    ends = finish(begun, timeout=90)
  for index, end in enumerate(ends):
    if index != dead:
      assert end.code == 1, end
      said = " ".join(end.said.split())
      place = re.search(
        rf"process {dead} on \S+ \(pid {pid}\), last at \[toy\] step (\d+) of",
        said,
      )
      assert place and 5 < int(place[1]) <= 65, said
      assert f"This is process {index}, at [toy] step" in said
  for end in launch([*arguments, "30", "0"], processes=4):
    assert "resumes at step 5" in end.said
    assert f"ended with {counting.after(30)}" in end.said


@pytest.mark.slow
def test_a_process_that_stands_still_is_named(tmp_path):
  """No connection closes: the silence alone tells, of process 0 as well."""
  with started([TOY, str(tmp_path), "100000", "0.05"]) as begun:
    begun[1].wait_for("step 4.")
    begun[0].process.send_signal(signal.SIGSTOP)
    assert begun[1].process.wait(90) == 1
    said = " ".join(begun[1].said().split())
  assert re.search(r"process 0 on \S+ \(pid \d+\), last at .* hasn't ans", said)
