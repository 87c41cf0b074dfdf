"""The report of a run that hangs; several processes are in tests/processes."""

import time

from jalign import heartbeat
from jalign.training.progress import follow


def _waits_for_nothing(seconds):
  time.sleep(seconds)


def test_a_run_without_progress_prints_where_it_stands(capfd):
  with heartbeat.beating(hang_minutes=1.2 / 60):
    for _ in follow(range(3), "scoring", "batch"):
      time.sleep(0.5)
    assert capfd.readouterr().err == ""  # there was progress all the time
    _waits_for_nothing(2.3)
  said = capfd.readouterr().err
  assert said.count("made no progress") == 1  # the next would be at 2.4 s
  assert "since [scoring] batch 3 of 3" in said
  assert "_waits_for_nothing" in said
  with heartbeat.beating(hang_minutes=0):
    assert heartbeat._heart is None
