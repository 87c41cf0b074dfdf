"""The scripts that start runs: their syntax, flags, and what they do."""

import os
import pathlib
import shlex
import subprocess

import pytest
import yaml

from jalign import cli
from jalign.cli.parsing import parse

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "experiments/launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
ARGUMENTS = {
  "one_host": ("dpo", "runs/dpo", "--config.mesh.fsdp=8"),
  "slurm": ("dpo", "runs/dpo", "--config.mesh.fsdp=16"),
  "tpu_vm": ("train", "dpo", "runs/dpo", "--config.title=two words"),
  "xpk": ("name", "dpo", "runs/dpo", "--config.title=two words"),
}
# A program that notes its arguments; the last of a command may be a shell's.
_NOTE = """#!/bin/bash
printf '%s\\0' "$(basename "$0")" "$@" >>"$NOTES"
printf '\\n' >>"$NOTES"
[[ $(basename "$0") != nvidia-smi ]] || printf '0\\n1\\n2\\n3\\n'
[[ $(basename "$0") != srun ]] || exit "${SRUN_CODE:-0}"
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
  """Runs a script among programs that only note how they are called."""
  programs = tmp_path / "bin"
  programs.mkdir()
  for name in ("jalign", "srun", "scontrol", "gcloud", "xpk", "nvidia-smi"):
    (programs / name).write_text(_NOTE)
    (programs / name).chmod(0o755)
  (tmp_path / "env/bin").mkdir(parents=True)
  (tmp_path / "env/bin/activate").write_text("")
  notes = tmp_path / "notes"
  environment = {
    "PATH": f"{programs}:{os.environ['PATH']}",
    "NOTES": str(notes),
    "JALIGN_ENV": str(tmp_path / "env"),
    "SLURM_JOB_ID": "7",
    **dict.fromkeys(("NAME", "ZONE", "CLUSTER", "PROJECT", "IMAGE"), "x"),
  }
  monkeypatch.chdir(tmp_path)

  def run(name, *arguments, code=0, **more):
    notes.write_text("")
    done = subprocess.run(
      ["bash", str(LAUNCH / f"{name}.sh"), *arguments],
      env=environment | more,
      capture_output=True,
      text=True,
    )
    assert done.returncode == code, done.stderr
    called = notes.read_text().splitlines()
    return [line.rstrip("\0").split("\0") for line in called]

  return run


def _flags(words):
  """The flags of `jalign train` in a command, or in a text for a shell."""
  if "train" in words:
    words = words[words.index("train") + 1 :]
  else:
    text = next(word for word in words if "jalign train" in word)
    text = text.partition("jalign train")[2].partition(">")[0]
    words = shlex.split(text.replace("\\\n", " "))
  return parse(cli.COMMANDS["train"], "jalign train", words)


def test_every_script_is_run_here():
  assert [path.stem for path in SCRIPTS] == sorted(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_scripts_give_their_arguments_to_jalign_train(name, launch):
  calls = launch(name, *ARGUMENTS[name])
  (call,) = [words for words in calls if words[0] not in ("scontrol",)]
  values = _flags(call)
  assert values.config == "dpo" and values.workdir.endswith("runs/dpo")
  assert bool(values.cluster) == (name != "one_host") and not values.coordinator
  key, _, text = ARGUMENTS[name][-1].removeprefix("--config.").partition("=")
  assert values.keys == [(key, text)]
  # Kubernetes starts only failed jobs again.
  assert bool(values.stopped_exit) == (name == "xpk")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_scripts_say_what_they_need(name, launch):
  assert launch(name, code=1) == []


def test_a_job_of_slurm_is_queued_again_until_there_is_a_report(
  launch, tmp_path
):
  assert launch("slurm", "dpo", "run")[-1] == ["scontrol", "requeue", "7"]
  # A run that failed isn't started again.
  assert len(launch("slurm", "dpo", "run", code=3, SRUN_CODE="3")) == 1
  (tmp_path / "run").mkdir()
  (tmp_path / "run/report.html").write_text("")
  assert [words[0] for words in launch("slurm", "dpo", "run")] == ["srun"]


def test_several_processes_of_one_host_share_its_gpus(launch):
  calls = launch("one_host", "dpo", "runs/dpo", PROCESSES="2")
  processes = [_flags(words) for words in calls if words[0] == "jalign"]
  assert sorted(p.process_id for p in processes) == [0, 1]
  assert {p.num_processes for p in processes} == {2}
  assert len({p.coordinator for p in processes}) == 1
  launch("one_host", "dpo", "runs/dpo", PROCESSES="3", code=2)


def test_a_pod_for_every_host_of_the_slice():
  job = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
  slice_ = job["spec"]["replicatedJobs"][0]["template"]["spec"]
  pod = slice_["template"]["spec"]
  shape = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  x, y = map(int, shape.split("x"))
  (container,) = pod["containers"]
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert slice_["parallelism"] == slice_["completions"] == x * y // chips
  values = _flags(container["command"])
  assert values.cluster and values.stopped_exit
