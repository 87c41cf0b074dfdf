"""Jumps of the clock, by seconds or by decades, change nothing."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import (
  EventAccumulator,
)

from jalign.training.metrics import JsonlWriter, TensorBoardWriter, read_jsonl
from tests.robustness.runs import check_equal


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_cut_on_a_jumping_clock(runs, mode, seed):
  name = f"clock-{mode}-{seed}"
  process = runs.start("jalign", *runs.command(mode, name))
  time.sleep(0.6 * runs.seconds(mode))
  process.kill()
  process.communicate()
  code, said = runs.drive({"target": "clock", "seed": seed}, mode, name)
  assert code == 0, said
  check_equal(runs.whole(mode), runs.folder / name)


def test_metrics_are_in_the_order_of_their_steps(tmp_path, monkeypatch):
  """Rows are sorted by step; TensorBoard hides steps that a run repeats."""
  now = iter([5e8, 4e9, 1e9, 1e8])
  for start in (0, 2):  # the second process starts years before the first
    clock = next(now), next(now)
    seconds = iter(clock * 20)
    monkeypatch.setattr(time, "time", lambda seconds=seconds: next(seconds))
    rows, events = (
      JsonlWriter(tmp_path / "m"),
      TensorBoardWriter(tmp_path / "t"),
    )
    for writer in (rows, events):
      writer.truncate_after(start)
      for step in range(start + 1, start + 4):
        writer.write(step, {"loss": 10.0 * start + step})
      writer.close()
  expected = [(1, 1.0), (2, 2.0), (3, 23.0), (4, 24.0), (5, 25.0)]
  assert [
    (r["step"], r["loss"]) for r in read_jsonl(tmp_path / "m")
  ] == expected
  scalars = EventAccumulator(str(tmp_path / "t")).Reload().Scalars("loss")
  assert [(e.step, e.value) for e in scalars] == expected
