"""Bad input to several processes: every process ends soon, with a message."""

import json
import os

import pytest

from tests.experiment.conftest import (
  pairs,
  place,  # noqa: F401
)
from tests.processes.launch import flags, free_port, launch, started
from tests.processes.runs import command, prepare

SOON = 120  # seconds, on a busy machine
FIRST = "--coordinator=127.0.0.1:1"


def _refused(arguments, **options):
  """What each process says; all end with exit code 2, without a stack."""
  ends = launch(arguments, code=2, timeout=SOON, **options)
  for end in ends:
    assert end.said.count("jalign: error:") == 1, end.said
    assert "Traceback" not in end.said and "*** Check failure" not in end.said
  return [" ".join(end.said.split()) for end in ends]


def _train(folder, *flags, name="run"):
  return ["jalign", *command(folder, name, *flags)]


@pytest.mark.slow
def test_a_config_that_differs_between_processes(tmp_path):
  prepare(tmp_path)
  more = "--config.loss.beta=0.2", "--config.batch_size=16"
  said = _refused(lambda index: _train(tmp_path, *more * index))
  for text in said:
    assert "config.batch_size is 8 in process 0 and 16 in process 1" in text
    assert "config.loss.beta is 0.1 in process 0 and 0.2 in process 1" in text


@pytest.mark.slow
def test_data_that_differ_between_processes(tmp_path):
  """The config is the same, and the file behind the path isn't."""
  prepare(tmp_path)
  (tmp_path / "other").mkdir()
  rows = [json.dumps(row) for row in pairs(44)]
  (tmp_path / "other" / "pairs.jsonl").write_text("\n".join(rows) + "\n")
  text = (tmp_path / "config.py").read_text()
  text = text.replace(str(tmp_path / "pairs.jsonl"), "pairs.jsonl")
  (tmp_path / "config.py").write_text(text)
  said = _refused(
    _train(tmp_path),
    folders=[tmp_path, tmp_path / "other"],
  )
  for text in said:
    assert "data.train is" in text and "in process 1" in text
  assert not list((tmp_path / "run").glob("*"))


@pytest.mark.slow
def test_a_folder_that_is_not_shared(tmp_path):
  prepare(tmp_path)
  said = _refused(lambda index: _train(tmp_path, name=f"run{index}"))
  for text in said:
    assert "isn't shared" in text and f"--workdir={tmp_path / 'run1'}" in text


@pytest.mark.slow
@pytest.mark.parametrize(
  "flag, expected",
  [
    ("--config.batch_size=5", "don't divide over the 2 devices"),
    ("--config.mesh.tensor=3", "mesh"),
    ("--config.loss.nonsense=1", "nonsense"),
  ],
)
def test_what_all_processes_refuse(tmp_path, flag, expected):
  prepare(tmp_path)
  for text in _refused(_train(tmp_path, flag)):
    assert expected in text


@pytest.mark.slow
def test_an_error_of_a_single_process_ends_all(tmp_path):
  """Process 1 can't read its config; process 0 is waiting for it."""
  prepare(tmp_path)
  other = ["jalign", "train", "--config=no.py", f"--workdir={tmp_path / 'run'}"]
  said = _refused(lambda index: other if index else _train(tmp_path))
  assert "process 1 failed: --config: there is no file 'no.py'" in said[0]
  assert "there is no file 'no.py'" in said[1]


@pytest.mark.slow
def test_a_folder_that_another_command_holds(tmp_path):
  prepare(tmp_path)
  with started(_train(tmp_path), processes=1) as holder:
    holder[0].wait_for("[data]")
    said = _refused(_train(tmp_path))
  for text in said:
    assert "is writing to this folder" in text


# Flags -> what the command says, in this process.
ALONE = {
  "--coordinator=nonsense --num_processes=2 --process_id=0": "not HOST:PORT",
  f"{FIRST} --num_processes=2": "--process_id: is missing",
  f"{FIRST} --num_processes=2 --process_id=2": "numbered 0 to 1",
  "--num_processes=2": "means nothing without --coordinator",
  "--cluster --process_id=1": "means nothing beside --cluster",
  f"{FIRST} --num_processes=2 --process_id=1 --join_seconds=1": (
    "can't be reached (Connection refused), after 1 s"
  ),
}


@pytest.mark.parametrize("told", ALONE)
def test_flags_that_describe_no_cluster(place, told):  # noqa: F811
  assert ALONE[told] in place.fails(place.command(*told.split()))


def _joining(folder, told):
  """`index -> arguments` that join as `told[index]`, (processes, index)."""
  coordinator = f"127.0.0.1:{free_port()}"
  return lambda index: _train(
    folder, "--join_seconds=5", *flags(coordinator, *told[index])
  )


@pytest.mark.slow
def test_no_platform_that_tells_of_processes(tmp_path):
  prepare(tmp_path)
  (said,) = _refused(_train(tmp_path, "--cluster"), processes=1)
  assert "neither TPU nor SLURM nor GKE" in said


@pytest.mark.slow
def test_slurm_tells_how_many_processes_there_are(tmp_path):
  """As `srun` would set the variables; the mesh then has both devices."""
  prepare(tmp_path)
  variables = lambda index: {
    "SLURM_JOB_ID": str(os.getpid()),  # decides the port
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
  }
  refused = _train(tmp_path, "--cluster", "--config.batch_size=5")
  for text in _refused(refused, environment=variables, joined=False):
    assert "don't divide over the 2 devices" in text


@pytest.mark.slow
def test_processes_that_never_join_are_named(tmp_path):
  prepare(tmp_path)
  told = (4, 0), (4, 1)
  for text in _refused(_joining(tmp_path, told), joined=False):
    assert "not all 4 processes have joined after 5 s. Missing: 2, 3" in text


@pytest.mark.slow
def test_two_processes_of_the_same_number(tmp_path):
  """Nobody is process 1."""
  prepare(tmp_path)
  said = _refused(_joining(tmp_path, [(2, 0), (2, 0)]), joined=False)
  for text in said:
    assert "can't listen there (Address already in use)" in text or (
      "Missing: 1" in text
    )


@pytest.mark.slow
def test_numbers_of_processes_that_differ(tmp_path):
  prepare(tmp_path)
  said = _refused(_joining(tmp_path, [(2, 0), (3, 1)]), joined=False)
  for text in said:
    assert "3 for process 1 and 2 for process 0" in text
