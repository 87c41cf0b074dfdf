"""What one process does for all that train a run together.

Every process computes; files, locks and lines for people are the first one's,
except for a checkpoint's arrays, of which each process writes its own part.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax


def host0() -> bool:
  """Whether this process is the one that writes for the whole run."""
  return jax.process_index() == 0


def once(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function that does something on the first process alone, once per run.

  On the others a call does nothing; nobody gets a result.
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
