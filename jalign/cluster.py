"""How the processes of a run join, and how an error in one ends them all.

The processes find each other by JAX's own service, which the first process
runs. A run without the flags of `jalign train` for it is a single process, and
nothing here is called.
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

# The only door to the service's client; jalign.heartbeat takes the same one.
from jax._src import distributed

from jalign import address, heartbeat
from jalign.errors import UserError, said

# JAX's own check of who lives ends a process with a stack trace of C++; that of
# jalign.heartbeat comes first.
_SERVICE_SECONDS = 600
_TELLING_SECONDS = 10  # in which all must have read why the run ends
_LONG = 30 * 24 * 3600 * 1000  # milliseconds
_KEY = "jalign/cluster"  # how names in the service's store begin

_joined, _failing = threading.Event(), threading.Event()


def start(
  coordinator: str = "",
  count: int | None = None,
  index: int | None = None,
  *,
  timeout: int = 300,
) -> None:
  """Joins the cluster; returns when all processes have.

  Must be called before anything asks JAX for devices.

  Args:
    coordinator: HOST:PORT, a free port of the first process's host; "" where
      the platform tells this, count and index (TPU, SLURM, GKE).
    count: number of processes.
    index: number of this process, from 0.
    timeout: seconds to wait for the others.

  Raises:
    UserError: the flags don't describe a cluster, or the processes didn't find
      each other in time; the first process's error names those that are
      missing.
  """
  if coordinator:
    address.check(coordinator, count, index)
    if index == 0:
      address.check_free(coordinator)
      print(f"[cluster] process 0 of {count} waits for the others", flush=True)
    else:
      address.reach(coordinator, timeout)
  unjoined = functools.partial(_not_joined, coordinator, count, index, timeout)
  with _aborts_told(unjoined), _named(timeout):
    try:
      jax.distributed.initialize(
        coordinator or None,
        count,
        index,
        initialization_timeout=timeout + 30,  # the service ends it earlier
        heartbeat_timeout_seconds=_SERVICE_SECONDS,
      )
    except Exception as e:
      raise unjoined(e, "") from e


@contextlib.contextmanager
def joined(*args: Any, **kwargs: Any) -> Iterator[None]:
  """Joins as `start` does; an error in any process ends all of them.

  A process may be waiting for another inside a computation, where Python can't
  interrupt it. So a thread waits for news of an error, prints it, and ends the
  process with exit code 2.

  Args:
    *args: see `start`.
    **kwargs: see `start`.

  Raises:
    UserError: as `start`; or processes were told of different numbers of
      processes.
  """
  start(*args, **kwargs)
  own, others = threading.Event(), threading.Event()
  _joined.set()
  watch = threading.Thread(target=_watch, args=(own, others), daemon=True)
  watch.start()
  try:
    _check_counts()
    if index() == 0:
      count = distributed.global_state.num_processes
      print(f"[cluster] all {count} processes have joined", flush=True)
    yield
  except BaseException as e:
    # This error comes from leaving the cluster, or `fail` has told of it.
    if others.is_set() or _failing.is_set():
      watch.join()
    own.set()
    _tell(e)
    raise
  finally:
    own.set()
    _leave()
    watch.join(_TELLING_SECONDS)  # it would abort as Python ends


def index() -> int:
  """Number of this process; unlike `jax.process_index`, asks for no device."""
  return distributed.global_state.process_id


def _client() -> Any:
  """What asks JAX's service, once the process has joined."""
  return distributed.global_state.client


def await_others() -> None:
  """Waits until all processes are here; the first may have to write a report.

  Does nothing outside a cluster.
  """
  client = distributed.global_state.client
  if client is not None:
    client.wait_at_barrier(f"{_KEY}/done", _LONG)


def fail(error: BaseException) -> None:
  """Ends all processes because of an error in a thread beside the main one.

  The main thread, which may be waiting for another process, isn't asked. Does
  nothing outside `joined`.

  Args:
    error: the reason, which all processes print.
  """
  if _joined.is_set():
    _failing.set()
    _tell(error)


def _tell(error: BaseException) -> None:
  """Tells all processes why the run ends; the first reason counts."""
  text = str(error) if isinstance(error, UserError) else said(error, 2000)
  index = distributed.global_state.process_id
  # Another process may have been first, or process 0 may be gone.
  with contextlib.suppress(Exception):
    _client().key_value_set(f"{_KEY}/failed", f"process {index} failed: {text}")


def _watch(own: threading.Event, others: threading.Event) -> None:
  """Waits for an error in some process, and ends this one then.

  Args:
    own: is set when this process ends by itself.
    others: is set here when another process's error ends this one.
  """
  try:
    reason = _client().blocking_key_value_get(f"{_KEY}/failed", _LONG)
  except Exception:  # the run is over
    return
  # This process may have an error of its own to print.
  if not _failing.is_set() and own.wait(1):
    return
  others.set()
  error = UserError(reason, remedy="All processes end.")
  with contextlib.suppress(OSError):
    os.write(2, f"{error.paragraph('jalign')}\n".encode())
  _leave()
  os._exit(2)


def _leave() -> None:
  """Leaves the cluster when all do; without them after some seconds.

  Process 0 keeps the service, so that it must not end before all have read why
  the run ends.
  """
  heartbeat.rest()
  leaving = threading.Thread(target=_shut_down, daemon=True)
  leaving.start()
  leaving.join(_TELLING_SECONDS)
  _forget()


def _shut_down() -> None:
  with contextlib.suppress(Exception):
    jax.distributed.shutdown()


_kept: list[Any] = []


def _forget() -> None:
  """Lets JAX not wait for other processes when Python ends."""
  state = distributed.global_state
  _kept.extend((state.client, state.service, state.preemption_sync_manager))
  state.client = state.service = state.preemption_sync_manager = None


def _check_counts() -> None:
  """Checks that process 0 was told of the same number of processes."""
  state = distributed.global_state
  if state.process_id == 0:
    _client().key_value_set(f"{_KEY}/count", str(state.num_processes))
  first = _client().blocking_key_value_get(f"{_KEY}/count", 60_000)
  if int(first) != state.num_processes:
    raise UserError(
      f"{state.num_processes} for process {state.process_id} and {first} for"
      " process 0.",
      where="--num_processes",
      remedy="Give all processes the same number.",
    )


def _not_joined(coordinator, count, index, timeout, error, log) -> UserError:
  """The error for people of a failed start, from what JAX logged."""
  where = f"--coordinator={coordinator}" if coordinator else "--cluster"
  if isinstance(error, ValueError) and not coordinator:
    return UserError(
      "neither TPU nor SLURM nor GKE tells of other processes here.",
      where=where,
      remedy="Give --coordinator, --num_processes and --process_id.",
    )
  missing = re.search(r"timed out task names:\n((?:\d+\n)+)", log)
  if missing:
    total = re.search(r"reached the barrier: \d+/(\d+)", log)
    names = sorted(map(int, missing[1].split()))
    return UserError(
      f"not all{f' {total[1]}' if total else ''} processes have joined after"
      f" {timeout} s. Missing: {', '.join(map(str, names))}.",
      where=where,
      remedy="Start each with its own --process_id, and all with the same"
      " --num_processes; their own output may say why they ended.",
    )
  return UserError(
    f"process {index} of {count} was refused, or another process hasn't"
    f" joined within {timeout} s.",
    where=where,
    remedy="Process 0 says which are missing. All need the same"
    " --num_processes, and each its own --process_id.",
  )


@contextlib.contextmanager
def _named(timeout: int) -> Iterator[None]:
  """Lets the service wait for a time, and then name the processes missing.

  jax.distributed (jax 0.10) can't give the service its timeout.
  """
  from jax._src.lib import _jax

  make = _jax.get_distributed_runtime_service
  _jax.get_distributed_runtime_service = functools.partial(
    make, cluster_register_timeout=timeout
  )
  try:
    yield
  finally:
    _jax.get_distributed_runtime_service = make


@contextlib.contextmanager
def _aborts_told(told: Callable[[Any, str], UserError]) -> Iterator[None]:
  """Turns the abort of a failed start into a paragraph and exit code 2.

  JAX's client aborts the process with a stack trace of C++. A callback in place
  of the abort would make an exception of it, but would be called, too, when
  process 0 dies later: then it ends the process without a word, since the
  client's error has no Python type.

  Args:
    told: `(None, what JAX logged) -> the error for people`.
  """
  heartbeat.delay_abort()
  over = threading.Event()
  sys.stderr.flush()
  screen = os.dup(2)

  def watch() -> None:
    while not over.wait(0.2):
      text = os.pread(log.fileno(), 2**20, 0).decode(errors="replace")
      if "Terminating process because" in text and not over.wait(0.2):
        text = os.pread(log.fileno(), 2**20, 0).decode(errors="replace")
        error = told(None, text)
        os.write(screen, f"{error.paragraph('jalign')}\n".encode())
        os._exit(2)

  with tempfile.TemporaryFile() as log:
    os.dup2(log.fileno(), 2)
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
      yield
    finally:
      over.set()
      watching.join()
      sys.stderr.flush()
      os.dup2(screen, 2)
      os.close(screen)
