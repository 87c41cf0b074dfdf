"""What the processes of a run do apart, and how they tell each other.

Every process computes. Only the first writes files, takes locks and prints
lines for people, except that each process writes its own part of a checkpoint's
arrays.
"""

import functools
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jalign.errors import UserError, said
from jalign.messages import packed, unpacked


def host0() -> bool:
  """Whether this process is the one that writes for the whole run."""
  return jax.process_index() == 0


def once(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function act on the first process alone: once in the whole run.

  On the other processes a call does nothing. A call returns None everywhere.
  """

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> None:
    if host0():
      function(*args, **kwargs)

  return call


@once
def say(*lines: Any) -> None:
  """Prints lines for people."""
  print(*lines, sep="\n", flush=True)


def exchange(value: Any) -> list[Any]:
  """The values of all processes, in their order, on every process.

  All processes must call this together.

  Args:
    value: this process's own, which `jalign.messages.packed` takes.
  """
  if jax.process_count() == 1:
    return [value]
  from jax.experimental import multihost_utils

  raw = np.frombuffer(packed(value), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(raw)))
  # A program is compiled for each size: with powers of 2 there are few.
  most = max(int(np.max(sizes)), 64)
  padded = np.zeros(1 << (most - 1).bit_length(), np.uint8)
  padded[: len(raw)] = raw
  rows = multihost_utils.process_allgather(padded)
  return [
    unpacked(row[:size].tobytes()) for row, size in zip(rows, sizes.tolist())
  ]


_decisions = itertools.count()
_KEPT = 100  # decisions; no process is behind by so many
_DECISION_MS = 3_600_000


def decided(decide: Callable[[], bool]) -> bool:
  """What the first process decides, on every process.

  The answer comes through JAX's coordination service, so that no program waits
  on the devices. All processes must call this equally often.

  Args:
    decide: called on the first process alone.
  """
  if jax.process_count() == 1:
    return decide()
  number = next(_decisions)
  key = "jalign/decision/{}".format
  if host0():
    value = decide()
    _service().key_value_set(key(number), str(int(value)))
    if number >= _KEPT:
      _service().key_value_delete(key(number - _KEPT))
    return value
  text = _service().blocking_key_value_get(key(number), _DECISION_MS)
  return bool(int(text))


def _service() -> Any:
  # The only door to the service's client; orbax takes the same one.
  from jax._src import distributed

  return distributed.global_state.client


def together(function: Callable[[], Any]) -> list[Any]:
  """Calls a function on every process; all see what each returned.

  Without this, an error on a single process would let the others wait.

  Args:
    function: computes without other processes, and outside the mesh if there
      are several processes; what it returns is exchanged.

  Raises:
    UserError: the function raised an error on some process, which the UserError
      names, the first such process on all. A process whose own error is of
      another class raises that error.
  """
  if jax.process_count() == 1:
    return [function()]
  value, error = None, None
  try:
    # Within a mesh of all devices, every operation would be one of all
    # processes.
    with jax.set_mesh(Mesh(np.empty((), object), ())):
      value = function()
  except Exception as e:
    error = e
  told = (
    None
    if error is None
    else (str(error) if isinstance(error, UserError) else said(error))
  )
  parts = exchange((value, told))
  if error is not None and not isinstance(error, UserError):
    raise error
  for index, (_, problem) in enumerate(parts):
    if problem is not None:
      raise UserError(problem, where=f"process {index}") from error
  return [value for value, _ in parts]


def same_everywhere(values: Mapping[str, str], what: str) -> None:
  """Checks that all processes have the same values.

  All processes must call this together.

  Args:
    values: name -> value, as it is told in the error.
    what: a noun phrase for all of the values, for the error.

  Raises:
    UserError: some differ; the error names at most three of them, with the
      first process that differs from process 0.
  """
  parts: list[dict[str, str]] = exchange(dict(values))
  for index, own in enumerate(parts):
    names = [
      name
      for name in sorted(parts[0].keys() | own.keys())
      if parts[0].get(name) != own.get(name)
    ]
    if names:
      said = "; ".join(
        f"{name} is {_short(parts[0].get(name))} in process 0 and"
        f" {_short(own.get(name))} in process {index}"
        for name in names[:3]
      )
      more = f" ({len(names) - 3} more differ)" if len(names) > 3 else ""
      raise UserError(
        f"{what} differs between processes: {said}{more}.",
        remedy="Start all processes by the same command, on hosts with the same"
        " files.",
      )


def _short(text: str | None) -> str:
  """A value in at most 60 characters."""
  text = "not there" if text is None else text
  return text if len(text) <= 60 else f"{text[:57]}..."


def own_part(items: Sequence[Any]) -> slice:
  """The part of a list that this process works on; the parts make the list."""
  count, index = jax.process_count(), jax.process_index()
  cut = lambda i: len(items) * i // count
  return slice(cut(index), cut(index + 1))


def divided(
  keys: Sequence[Hashable],
  function: Callable[[Sequence[int]], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Computes numbers of N items, each process for its part; all get all.

  All processes must call this together, with the same items.

  Args:
    keys: [N] keys of the items; items with equal keys are in the same part.
    function: `indices of n >= 1 items -> {name: [n] numbers}`, which computes
      without other processes. Where there is a single process, it is called
      once, with all items.

  Returns:
    name -> [N] numbers, as exact as they were returned.

  Raises:
    UserError: as in `together`, or processes gave other names than the rest.
  """
  if jax.process_count() == 1:
    return dict(function(range(len(keys))))
  numbered = {key: i for i, key in enumerate(dict.fromkeys(keys))}
  part = range(len(numbered))[own_part(range(len(numbered)))]
  own = [i for i, key in enumerate(keys) if numbered[key] in part]
  parts = together(lambda: (own, dict(function(own)) if own else None))
  names = next((list(told) for _, told in parts if told is not None), [])
  whole: dict[str, np.ndarray] = {}
  for index, (at, told) in enumerate(parts):
    if told is None:
      continue
    if told.keys() != set(names):
      raise UserError(
        f"gave numbers called {sorted(told)}, where other processes gave"
        f" {sorted(names)}.",
        where=f"process {index}",
        remedy="Return the same names, whatever the responses are.",
      )
    for name, numbers in told.items():
      kept = whole.setdefault(name, np.zeros(len(keys), numbers.dtype))
      kept[at] = numbers
  return whole
