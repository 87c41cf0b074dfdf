"""Tests code from responses, each test in a process of its own with limits.

The limits hold back accidents and the usual tricks: endless loops, output
without end, `exit()` before the test. On Linux the process can neither change
files nor start processes nor open sockets. It does run as the same user, and
can read what this user can, the environment of the parent process too: judge
code of models that nobody trusts on a machine that has nothing to hide. Code
and test share an interpreter, so that code that looks for its test or for the
proof of having passed can cheat.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from jalign import hosts
from jalign.errors import UserError

_SCRIPT = pathlib.Path(__file__).with_name("confined.py")
_MOST = 1 << 12  # bytes of a process's answer
_FENCE = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.S | re.I)
# One thread, as no more are allowed.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Limits(NamedTuple):
  """What a test may take.

  Attributes:
    seconds: wall-clock time, > 0; the processor's time has the same limit,
      rounded up.
    memory: MiB of address space, at least 64; Python needs some 30 of them.
    workers: number of tests at a time.
  """

  seconds: float = 5.0
  memory: int = 512
  workers: int = 2


class Outcome(NamedTuple):
  """How a test ended.

  Attributes:
    passed: whether the test ran to its end without an exception.
    timed_out: whether the process was stopped for its time.
    lacking: what the system couldn't hold back ("memory and time", "files",
      "processes"), where the test has passed.
  """

  passed: bool
  timed_out: bool
  lacking: tuple[str, ...] = ()


def code_of(response: str) -> str | None:
  """The last fenced block of Python in a response; None without one."""
  blocks = _FENCE.findall(response)
  return blocks[-1] if blocks else None


def run_tests(jobs: Sequence[tuple[str, str]], limits: Limits) -> list[Outcome]:
  """Runs (code, test) pairs; a test passes if nothing raises.

  Args:
    jobs: N pairs of texts: code, and a test that runs in the code's namespace.
    limits: what each of them may take.

  Returns:
    N outcomes, in order.

  Raises:
    UserError: a limit is out of range.
  """
  if not (limits.seconds > 0 and limits.memory >= 64 and limits.workers > 0):
    raise UserError(
      f"{limits} can't be.",
      where="unit tests",
      remedy="Give seconds > 0, memory of 64 MiB or more, and workers > 0.",
    )
  with ThreadPoolExecutor(limits.workers) as pool:
    return list(pool.map(lambda job: _run(job[0], job[1], limits), jobs))


def _run(code: str, test: str, limits: Limits) -> Outcome:
  token = secrets.token_hex(16)
  told = {
    "code": code,
    "test": test,
    "token": token,
    "seconds": int(-(-limits.seconds // 1)) + 1,
    "memory": limits.memory << 20,
  }
  with (
    tempfile.TemporaryFile() as given,
    tempfile.TemporaryDirectory(prefix="jalign-test-") as folder,
  ):
    given.write(json.dumps(told).encode())
    given.seek(0)
    process = subprocess.Popen(
      [sys.executable, "-I", "-B", "-X", "utf8", str(_SCRIPT)],
      stdin=given,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      cwd=folder,
      env=_ENVIRONMENT,
      start_new_session=True,  # one group, which is ended as a whole
    )
    try:
      said, timed_out = _answer(process, time.monotonic() + limits.seconds)
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
      if process.stdout:
        process.stdout.close()
  if timed_out or process.returncode == -signal.SIGXCPU:
    return Outcome(False, True)
  proof, _, lacking = said.decode(errors="replace").partition(" ")
  if lacking:
    _warn(lacking)
  passed = proof == token and process.returncode == 0
  return Outcome(passed, False, tuple(filter(None, lacking.split(","))))


def _answer(process: subprocess.Popen, end: float) -> tuple[bytes, bool]:
  """(at most `_MOST` bytes of output, whether the time ran out)."""
  assert process.stdout is not None
  said, there = b"", process.stdout.fileno()
  poll = select.poll()
  poll.register(there, select.POLLIN | select.POLLHUP)
  while len(said) < _MOST:
    left = end - time.monotonic()
    if left <= 0 or not poll.poll(1000 * left):
      return said, True
    more = os.read(there, _MOST - len(said))
    if not more:
      break
    said += more
  try:
    process.wait(max(end - time.monotonic(), 0))
  except subprocess.TimeoutExpired:
    return said, True
  return said, False


@functools.lru_cache
def _warn(lacking: str) -> None:
  """Says once what this machine doesn't hold back."""
  hosts.say(f"unit tests: this system sets no limits on {lacking}.")
