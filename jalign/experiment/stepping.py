"""What a stage's steps do beside updates of the optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jalign.types import Params


def _as_it_is(update: Callable[..., Any]) -> Callable[..., Any]:
  return update


class Stepping(NamedTuple):
  """What a step does beside an update of the optimiser.

  Attributes:
    init: `trained parameters -> carry` at step 0.
    shardings: the carry's shardings, as a tree with its structure.
    around: `update -> update` that leaves the carry alone.
    finish: `(state, values, sums of each update) -> (state, whether what it
      keeps is without NaN)`, which ends a step; None if a step is one update.
  """

  init: Callable[[Params], Any] = lambda trained: ()
  shardings: Any = ()
  around: Callable[[Callable[..., Any]], Callable[..., Any]] = _as_it_is
  finish: Callable[..., Any] | None = None
