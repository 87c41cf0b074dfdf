"""Starts the processes of a cluster on this machine, and ends them.

Each process has virtual CPU devices of its own; gloo carries the collectives
over the loopback.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jalign import cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]

Arguments = Sequence[str] | Callable[[int], Sequence[str]]
Environment = Callable[[int], Mapping[str, str]]


class Ended(NamedTuple):
  """How a process ended.

  Attributes:
    code: the exit status; minus the signal's number after a signal.
    said: what the process printed on both standard streams.
    seconds: from the start of the first process to this one's end.
  """

  code: int
  said: str
  seconds: float


class Started:
  """A process that was started; `process` is its Popen, for signals."""

  def __init__(self, process: subprocess.Popen, log: pathlib.Path):
    self.process, self._log = process, log

  def said(self) -> str:
    """What the process has printed until now."""
    return self._log.read_text(errors="replace")

  def wait_for(self, text: str, timeout: float = 120) -> None:
    """Waits until the process has printed a text."""
    end = time.monotonic() + timeout
    while text not in self.said():
      code = self.process.poll()
      assert code is None, f"ended with {code} before {text!r}: {self.said()}"
      assert time.monotonic() < end, f"no {text!r}: {self.said()}"
      time.sleep(0.05)


@contextlib.contextmanager
def started(
  arguments: Arguments,
  *,
  processes: int = 2,
  devices: int = 1,
  environment: Environment = lambda index: {},
  folders: Sequence[pathlib.Path] | None = None,
  joined: bool = True,
) -> Iterator[list[Started]]:
  """Starts `python -m` with the arguments in several processes.

  Whatever still runs is killed at the end.

  Args:
    arguments: a module and its arguments; or `index -> arguments`.
    processes: number of processes.
    devices: CPU devices of each process.
    environment: further variables of each process.
    folders: folder in which each process works; by default the repository's.
    joined: whether the `flags` of a cluster are added; never to a single
      process.
  """
  of = arguments if callable(arguments) else lambda index: arguments
  coordinator = f"127.0.0.1:{free_port()}"
  begun: list[Started] = []
  with tempfile.TemporaryDirectory() as logs:
    try:
      for index in range(processes):
        more = flags(coordinator, processes, index)
        log = pathlib.Path(logs, str(index))
        with log.open("w") as out:
          process = subprocess.Popen(
            [
              sys.executable,
              "-m",
              *of(index),
              *more * (joined and processes > 1),
            ],
            cwd=ROOT if folders is None else folders[index],
            env=os.environ | _environment(devices) | dict(environment(index)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
          )
        begun.append(Started(process, log))
      yield begun
    finally:
      for each in begun:
        each.process.kill()
      for each in begun:
        each.process.wait()


def finish(begun: Sequence[Started], timeout: float = 600) -> list[Ended]:
  """Waits for the end of all processes; a test fails where one doesn't end."""
  start = time.monotonic()
  ends: dict[int, Ended] = {}
  while len(ends) < len(begun):
    for index, each in enumerate(begun):
      code = each.process.poll()
      if code is not None and index not in ends:
        ends[index] = Ended(code, each.said(), time.monotonic() - start)
    if time.monotonic() - start > timeout:
      running = sorted(set(range(len(begun))) - ends.keys())
      said = "\n".join(f"[{i}] {each.said()}" for i, each in enumerate(begun))
      raise AssertionError(f"{running} run after {timeout} s.\n{said}")
    time.sleep(0.02)
  return [ends[index] for index in range(len(begun))]


def launch(
  arguments: Arguments,
  *,
  processes: int = 2,
  devices: int = 1,
  timeout: float = 600,
  code: int | None = 0,
  **options: Any,
) -> list[Ended]:
  """Runs `python -m` with the arguments in several processes, to their end.

  Args:
    arguments: a module and its arguments, such as ["jalign", "train", ...]; or
      `index -> arguments`. See `started`.
    processes: number of processes.
    devices: CPU devices of each process.
    timeout: seconds after which the test fails and all are killed.
    code: the exit status that all must have; None for any.
    **options: further ones of `started`.
  """
  with started(
    arguments, processes=processes, devices=devices, **options
  ) as begun:
    ends = finish(begun, timeout)
  if code is not None:
    said = "\n".join(f"[{i}] {each}" for i, each in enumerate(ends))
    assert all(each.code == code for each in ends), said
  return ends


def join(arguments: Sequence[str]) -> list[str]:
  """In a script that `launch` started: joins the cluster.

  Args:
    arguments: sys.argv[1:].

  Returns:
    The arguments beside the cluster's.
  """
  names = "coordinator", "num_processes", "process_id"
  given = [word.removeprefix("--").partition("=") for word in arguments]
  told = {name: value for name, _, value in given if name in names}
  if told:
    cluster.start(
      told["coordinator"],
      int(told["num_processes"]),
      int(told["process_id"]),
      timeout=60,
    )
  return [a for a, part in zip(arguments, given) if part[0] not in names]


def flags(coordinator: str, processes: int, index: int) -> list[str]:
  """The flags of `jalign train` by which a process joins."""
  return [
    f"--coordinator={coordinator}",
    f"--num_processes={processes}",
    f"--process_id={index}",
  ]


def free_port() -> int:
  """A port of this machine at which nothing listens."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _environment(devices: int) -> dict[str, str]:
  """Little optimising, as compiling is most of a tiny run."""
  flags = os.environ.get("XLA_FLAGS", "")
  return {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}"
    " --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true",
    # Programs of several processes aren't those of the other tests.
    "JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"]
    + "/processes",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
  }
