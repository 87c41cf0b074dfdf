"""After `kill -9` anywhere, the same command ends as if uninterrupted."""

import random
import signal
import time

import pytest

from tests.robustness.points import POINTS
from tests.robustness.runs import check_equal

KILLED = -signal.SIGKILL
FIXED = [
  (name, mode)
  for name, point in POINTS.items()
  for mode in point.modes
  if mode != "sweep"
]
# Seeds of kills at a file operation, and at a time. A seed is in a test's name,
# so that `pytest -k` runs the test again.
SEEDS = [(seed, mode) for seed in range(8) for mode in ("offline", "online")]

# A run is killed at each of these points in turn, and resumed each time. So the
# fast tests have two points, but only one comparison; the others are slow.
CHAINS = {
  "offline": (
    "half of reference_logps.npz",
    "before the rename",
  ),
  "online": ("decoding", "half of an old one deleted"),
}


@pytest.mark.parametrize(
  "mode", ["offline", pytest.param("online", marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_again_and_again(runs, mode):
  for name in CHAINS[mode]:
    code, said = runs.drive(POINTS[name].to_dict(), mode, f"chain-{mode}")
    assert code == KILLED, f"{name}: {said}"
  runs.train(mode, f"chain-{mode}")
  check_equal(runs.whole(mode), runs.folder / f"chain-{mode}")


# In this file, since it compares with the uninterrupted run made above.
@pytest.mark.slow
def test_a_run_on_a_jumping_clock(runs):
  code, said = runs.drive({"target": "clock", "seed": 0}, "offline", "clock")
  assert code == 0, said
  check_equal(runs.whole("offline"), runs.folder / "clock")
  report = (runs.folder / "clock" / "report.md").read_text()
  seconds = report.split("wall time of this call")[1].split("|")[1]
  assert 0 < int(seconds.split()[0]) < 600


@pytest.mark.slow
def test_a_sweep_that_is_killed_while_it_shares_a_stage(runs):
  for name, point in POINTS.items():
    if "sweep" in point.modes:
      code, said = runs.drive(point.to_dict(), "sweep", "chain-sweep")
      assert code == KILLED, f"{name}: {said}"
  said = runs.train("sweep", "chain-sweep")
  assert "[sft] is that of" not in said  # it was taken before the last kill
  for beta in (0.1, 0.5):
    run = f"loss.beta={beta}"
    check_equal(runs.whole("sweep") / run, runs.folder / "chain-sweep" / run)


@pytest.mark.slow
@pytest.mark.parametrize("point, mode", FIXED)
def test_killed_at_a_point(runs, point, mode):
  whole, name = runs.whole(mode), f"{mode} {point}"
  code, said = runs.drive(POINTS[point].to_dict(), mode, name)
  assert code == KILLED, said
  runs.train(mode, name)
  check_equal(whole, runs.folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("seed, mode", SEEDS)
def test_killed_at_a_random_file_operation(runs, seed, mode):
  whole, name = runs.whole(mode), f"{mode} operation {seed}"
  call = random.Random(f"{seed} {mode}").randint(1, runs.operations(mode) - 5)
  print(f"killed at file operation {call} of {runs.operations(mode)}")
  folder = runs.folder / name
  point = {"target": "files", "about": str(folder), "call": call}
  code, said = runs.drive(point, mode, name)
  assert code == KILLED, said
  runs.train(mode, name)
  check_equal(whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed, mode", SEEDS)
def test_killed_at_a_random_time(runs, seed, mode):
  """The kill may come at any point of any thread."""
  whole, name = runs.whole(mode), f"{mode} time {seed}"
  seconds = random.Random(seed).uniform(0.2, 1.0) * runs.seconds(mode)
  process = runs.start("jalign", *runs.command(mode, name))
  time.sleep(seconds)
  process.kill()
  said, _ = process.communicate(timeout=600)
  print(f"killed after {seconds:.2f} s ({process.returncode}): {said[-500:]}")
  runs.train(mode, name)
  check_equal(whole, runs.folder / name)
