"""What the first process does for all processes that train a run together.

Every process computes. Only the first writes files, takes locks and prints
lines for people, except that each process writes its own part of a checkpoint's
arrays.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax


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
