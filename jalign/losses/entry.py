"""A row of the catalogue of losses."""

from collections.abc import Callable
from typing import NamedTuple

from jalign.types import Array


class Entry(NamedTuple):
  """A row of the catalogue.

  Attributes:
    function: takes arrays and returns per-example losses.
    batch: kind of batch, a key of `jalign.training.kinds.KINDS`.
    paper: arXiv id; for a paper that isn't on arXiv, the words by which the
      docstring cites it; "" for an unpublished loss, whose docstring says so.
    denominator: the count that divides a batch's sum, "examples" or "tokens".
    coupled: whether an example's loss depends on other examples of its batch.
    monotone: whether, with default hyperparameters, the loss never rises with
      the log-prob of a good response and never falls with that of a bad one.
    detached: whether the loss holds something constant that depends on the
      policy, so that its gradient isn't the derivative of its values.
  """

  function: Callable[..., Array]
  batch: str
  paper: str
  denominator: str = "examples"
  coupled: bool = False
  monotone: bool = True
  detached: bool = False
