"""What the steps of a stage are beside updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jalign.types import Params


def _as_it_is(update: Callable[..., Any]) -> Callable[..., Any]:
  return update


class Stepping(NamedTuple):
  """What a step does beside one update of the optimiser.

  Attributes:
    init: `trained parameters -> ` the carry of step 0.
    around: `update -> update` that leaves the carry alone.
    finish: `(state, values, sums of each update) -> (state, whether what it
      keeps is without NaN)` that ends a step; None where an update is a step.
  """

  init: Callable[[Params], Any] = lambda trained: ()
  around: Callable[[Callable[..., Any]], Callable[..., Any]] = _as_it_is
  finish: Callable[..., Any] | None = None
