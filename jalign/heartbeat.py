"""Signs of life of a run's processes, and what happens when they stop.

Each process writes a line about itself into the key-value store of JAX's
coordination service every BEAT seconds, and reads the lines of the others. A
process that is silent for SILENT seconds is dead. Every other process then
prints which process that is and where it was, and ends: a collective operation
with a dead process may never return, and Python can't interrupt it.

A process whose own work makes no progress for some minutes prints the stacks of
all its threads, and where the other processes are; nothing is ended for that.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

# The only door to the service's client; orbax takes the same one.
from jax._src import distributed

from jalign.errors import UserError, said

BEAT = 2.0  # seconds
SILENT = 60.0  # seconds
# After a collective operation has failed, a shorter silence is proof enough.
SILENT_AFTER_FAILURE = 15.0
_KEYS = "jalign/heartbeat"


class _Sign(NamedTuple):
  """What a process tells of itself.

  Attributes:
    number: of the sign; grows with each sign.
    host: name of the process's host.
    pid: its number there.
    at: the last progress, in words.
    clock: time of day on its host.
    verdict: why the process ends, if it has seen that another one is dead.
    left: whether the process has done its work.
  """

  number: int
  host: str
  pid: int
  at: str
  clock: str
  verdict: str = ""
  left: bool = False


class _Heart:
  """Beats for this process, and listens to the others.

  One thread speaks with the service, where calls may take long; another judges
  and never waits.
  """

  def __init__(self, cluster: Any, hang_seconds: float):
    self._client, self._service = cluster.client, cluster.coordinator_address
    self._index, self._count = cluster.process_id, cluster.num_processes
    self._hang = hang_seconds
    self._at, self._moved = "the start", time.monotonic()
    self._silent = SILENT
    self._signs: dict[int, _Sign] = {}
    now = time.monotonic()
    self._heard = dict.fromkeys(range(self._count), now)
    self._answered, self._asked = now, 0.0
    self._beats = 0
    self._done = threading.Event()
    self._lock, self._speaking = threading.Lock(), threading.Lock()
    threads = [self._judge, *[self._talk] * (self._client is not None)]
    self._threads = [threading.Thread(target=t, daemon=True) for t in threads]
    for thread in self._threads:
      thread.start()

  def move(self, at: str) -> None:
    self._at, self._moved = at, time.monotonic()

  def rest(self) -> None:
    self._done.set()

  def leave(self) -> None:
    """Ends the threads; the others know that this process isn't dead."""
    self.rest()
    for thread in self._threads:
      thread.join(timeout=BEAT)
    if self._client is not None:
      with contextlib.suppress(Exception):
        self._beat(left=True)

  def await_verdict(self, error: Exception) -> None:
    """Returns when all others have shown that they live."""
    if self._client is None:
      return
    _print(
      f"jalign: process {self._index} at {self._at}: {said(error)}. Asking"
      " whether the other processes live ..."
    )
    self._silent = min(self._silent, SILENT_AFTER_FAILURE)
    before = {i: sign.number for i, sign in self._signs.items()}
    since = time.monotonic()

    def lives(index: int) -> bool:
      sign = self._signs.get(index)
      # The next sign may have been under way before the process died.
      return sign is not None and (
        sign.left or sign.number > before.get(index, 0) + 1
      )

    others = [i for i in range(self._count) if i != self._index]
    while time.monotonic() < since + SILENT:
      if self._answered > since and all(map(lives, others)):
        return
      time.sleep(0.1)

  def _beat(self, **more: Any) -> None:
    with self._lock:
      self._beats += 1
      sign = _Sign(
        self._beats,
        socket.gethostname(),
        os.getpid(),
        self._at,
        time.strftime("%H:%M:%S"),
        **more,
      )
      self._client.key_value_set(
        f"{_KEYS}/{self._index}", json.dumps(sign), allow_overwrite=True
      )

  def _talk(self) -> None:
    while not self._done.is_set():
      self._asked = time.monotonic()
      try:
        self._beat()
        told = self._client.key_value_dir_get(f"{_KEYS}/")
      except Exception:  # whoever judges sees that no answer comes
        self._done.wait(0.5)
        continue
      now = time.monotonic()
      for key, text in told:
        index, sign = int(key.rpartition("/")[2]), _Sign(*json.loads(text))
        known = self._signs.get(index)
        if known is None or sign.number != known.number:
          self._signs[index], self._heard[index] = sign, now
        if sign.verdict and index != self._index:
          self._say_and_exit(sign.verdict)
      self._answered = now
      self._done.wait(BEAT)

  def _judge(self) -> None:
    hang, refused = self._hang, 0
    while not self._done.wait(0.5):
      now = time.monotonic()
      if hang and now - self._moved > hang:
        self._report(now - self._moved)
        hang *= 2
      elif now - self._moved < self._hang:
        hang = self._hang
      if self._client is None:
        continue
      if self._index and self._answered < self._asked < now - 0.4:
        refused = refused + 1 if self._is_refused() else 0
        if refused > 1:
          self._end(0, "is gone")
        if now - self._answered > self._silent:
          self._end(0, f"hasn't answered for {now - self._answered:.0f} s")
      for index, heard in self._heard.items():
        left = index in self._signs and self._signs[index].left
        # Silence counts up to the last answer of the service.
        if self._answered - heard > self._silent and not left:
          self._end(index, f"has been silent for {now - heard:.0f} s")

  def _is_refused(self) -> bool:
    """Whether nothing listens at the address of the service any more.

    A call of the service doesn't return while JAX's client aborts.
    """
    host, _, port = self._service.rpartition(":")
    try:
      socket.create_connection((host.strip("[]"), int(port)), 1).close()
    except ConnectionRefusedError:
      return True
    except (OSError, ValueError):
      pass
    return False

  def _whereabouts(self, index: int) -> str:
    sign = self._signs.get(index)
    if sign is None:
      return f"process {index}, of which nothing was heard,"
    return (
      f"process {index} on {sign.host} (pid {sign.pid}), last at {sign.at}"
      f" ({sign.clock}),"
    )

  def _end(self, index: int, how: str) -> None:
    """Ends this process because another one is dead."""
    verdict = UserError(
      f"{self._whereabouts(index)} {how}: the process was killed or has failed,"
      " or its host can't be reached.",
      remedy="All processes end. The same command, started on all hosts, goes"
      " on from the newest checkpoint.",
    )
    text = str(verdict)
    if index:  # where process 0 is dead, nobody carries the message
      spoken = threading.Thread(
        target=lambda: self._beat(verdict=text), daemon=True
      )
      spoken.start()
      spoken.join(timeout=BEAT)
    self._say_and_exit(text)

  def _say_and_exit(self, verdict: str) -> None:
    if not self._speaking.acquire(blocking=False):
      return  # the other thread has come to a verdict already
    own = f"This is process {self._index}, at {self._at}."
    _print(UserError(f"{verdict} {own}").paragraph("jalign"))
    if self._index == 0:
      # The others read the verdict from this process.
      time.sleep(2 * BEAT + 1)
    os._exit(1)

  def _report(self, seconds: float) -> None:
    lines = [
      f"jalign: process {self._index} has made no progress for"
      f" {seconds / 60:.1f} minutes, since {self._at}. The processes:"
    ]
    for index in range(self._count if self._client is not None else 0):
      ago = time.monotonic() - self._heard[index]
      lines.append(
        f"  {self._whereabouts(index).rstrip(',')}; heard of {ago:.0f} s ago"
      )
    _print("\n".join([*lines, "Stacks of the threads of this process:"]))
    with contextlib.suppress(Exception):
      faulthandler.dump_traceback(2, all_threads=True)


_heart: _Heart | None = None


@contextlib.contextmanager
def beating(hang_minutes: float = 0) -> Iterator[None]:
  """Watches over a run while the context lasts, in all its processes.

  Args:
    hang_minutes: minutes without progress after which the stacks of all threads
      are printed; 0 for never.
  """
  global _heart
  if distributed.global_state.client is not None:
    delay_abort()
  elif not hang_minutes:
    yield
    return
  _heart = _Heart(distributed.global_state, 60 * hang_minutes)
  alone = distributed.global_state.client is None
  failed = False
  try:
    yield
  except Exception as e:
    failed = True
    if not isinstance(e, UserError):
      await_verdict(e)
    raise
  finally:
    # One of several that fails beats on, until it has told its error.
    if alone or not failed:
      _heart.leave()
      _heart = None


def rest() -> None:
  """Stops watching: the others are leaving, and no silence means anything."""
  if _heart is not None:
    _heart.rest()


def progress(at: str) -> None:
  """Tells that the work goes on.

  Args:
    at: what was done last, such as "[dpo] step 12 of 500".
  """
  if _heart is not None:
    _heart.move(at)


def await_verdict(error: Exception) -> None:
  """Waits until it is clear whether an error came from another one's death.

  If another process is dead, this one ends here, with a message that names the
  dead one. `beating` does this for every error that isn't a UserError.

  Args:
    error: the error, such as that of a collective operation.
  """
  if _heart is not None:
    _heart.await_verdict(error)


def delay_abort() -> None:
  """Lets an abort of the process wait for six seconds.

  JAX's client aborts the process, with a stack trace of C++, at the moment when
  process 0 dies; the thread that judges needs a second to say so in words. A
  handler in Python wouldn't run any more. `sleep` is called with the signal's
  number, 6, as its argument.
  """
  with contextlib.suppress(OSError, AttributeError):
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def _print(text: str) -> None:
  with contextlib.suppress(OSError):
    os.write(2, f"{text}\n".encode())
