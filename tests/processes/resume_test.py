"""`jalign train` on four processes: stopped, killed, and gone on with."""

import re
import shutil
import signal
import time

import pytest

from jalign.training.checkpoint import Checkpoints
from tests.processes.launch import finish, started
from tests.processes.runs import check_same, command, prepare, train
from tests.robustness.runs import check_equal

FLAGS = (
  "--config.steps=12",
  "--config.save_every=3",
  "--config.eval_every=4",
  "--config.select=eval/loss",
  "--config.reference=precompute",
  "--config.keep_newest=3",
)
VARIANTS = {
  "all": (*FLAGS, "--config.mesh.data=2", "--config.mesh.fsdp=2"),
  "lora": (*FLAGS, "--config.lora.rank=2", "--config.mesh.fsdp=2"),
}


@pytest.fixture(scope="module", params=VARIANTS)
def whole(tmp_path_factory, request):
  """(A folder with an uninterrupted run `whole` of four processes, flags)."""
  folder = tmp_path_factory.mktemp(request.param)
  prepare(folder)
  flags = VARIANTS[request.param]
  train(folder, "whole", *flags, processes=4)
  return folder, flags


def _interrupt(folder, name, flags, number, victim, step=5, processes=4):
  """Sends a signal to one of the processes when a step is written."""
  rows = folder / name / "align" / "metrics.jsonl"
  arguments = ["jalign", *command(folder, name, *flags)]
  with started(arguments, processes=processes) as begun:
    while not rows.exists() or f'{{"step": {step}, ' not in rows.read_text():
      assert all(each.process.poll() is None for each in begun), begun[0].said()
      time.sleep(0.02)
    begun[victim].process.send_signal(number)
    return finish(begun, timeout=30 if number == signal.SIGTERM else 90)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(whole):
  folder, flags = whole
  ends = _interrupt(folder, "stopped", flags, signal.SIGTERM, victim=3)
  assert [end.code for end in ends] == [0] * 4, ends
  step = re.search(r"stopped and saved at step (\d+)", ends[0].said)
  assert step, ends[0].said
  states = folder / "stopped" / "align" / "checkpoints"
  assert Checkpoints(states).steps() == sorted({3, 6, int(step[1])})[: 2 + 1]
  # Other numbers of processes go on with copies.
  for count in (1, 2):
    shutil.copytree(folder / "stopped", folder / f"by {count}")
    mesh = [flag for flag in flags if "mesh" not in flag]
    said = train(folder, f"by {count}", *mesh, processes=count)[0].said
    assert f"[align] resumes at step {step[1]} of 12" in said
    check_same(folder / "whole", folder / f"by {count}")
  train(folder, "stopped", *flags, processes=4)
  check_equal(folder / "whole", folder / "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_a_run_that_lost_a_process_goes_on_to_the_same_bits(whole, victim):
  folder, flags = whole
  name = f"killed {victim}"
  ends = _interrupt(folder, name, flags, signal.SIGKILL, victim)
  for index, end in enumerate(ends):
    if index != victim:
      assert end.code == 1, end.said
      assert re.search(rf"process\s+{victim}\s+on\s+\S+\s+\(pid", end.said)
  train(folder, name, *flags, processes=4)
  check_equal(folder / "whole", folder / name)


@pytest.mark.slow
def test_four_processes_go_on_with_what_one_began(whole):
  folder, flags = whole
  mesh = [flag for flag in flags if "mesh" not in flag]
  shutil.copytree(folder / "whole", folder / "began")
  for name in ("checkpoints", "best"):
    assert Checkpoints(folder / "began" / "align" / name).steps()
  shutil.rmtree(folder / "began" / "align")
  with started(
    ["jalign", *command(folder, "began", *mesh)], processes=1
  ) as run:
    run[0].wait_for("[align] 12 steps")
    rows = folder / "began" / "align" / "metrics.jsonl"
    while not rows.exists() or '{"step": 5, ' not in rows.read_text():
      assert run[0].process.poll() is None, run[0].said()
      time.sleep(0.02)
    run[0].process.send_signal(signal.SIGTERM)
    finish(run, timeout=30)
  said = train(folder, "began", *flags, processes=4)[0].said
  assert "[align] resumes at step" in said and "goes on with mesh" in said
  check_same(folder / "whole", folder / "began")


@pytest.mark.slow
def test_a_stop_in_the_second_stage_of_a_run_that_saves_by_the_clock(tmp_path):
  """Both processes save at the same steps: after each step, by these flags."""
  prepare(tmp_path)
  flags = (
    "--config.steps=20",
    "--config.save_every=0",
    "--config.save_minutes=0.00001",
    "--config.keep_newest=30",
  )
  ends = _interrupt(
    tmp_path, "run", flags, signal.SIGTERM, victim=1, step=3, processes=2
  )
  assert [end.code for end in ends] == [0] * 2, ends
  stop = re.search(r"stopped and saved at step (\d+)", ends[0].said)
  assert stop and 3 <= int(stop[1]) < 20, ends[0].said
  states = Checkpoints(tmp_path / "run" / "align" / "checkpoints")
  assert states.steps() == list(range(1, int(stop[1]) + 1))
  said = train(tmp_path, "run", *flags)[0].said
  assert f"[align] resumes at step {stop[1]} of 20" in said
  assert states.steps() == list(range(1, 21))
