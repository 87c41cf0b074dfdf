"""The signature of a loss is its contract; this reads it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

# The positional names that a loss may use, by the kind of its batch. Shapes:
# [B] for all of these. A new kind of batch is a new row, here and in
# jalign.training.objective.
VOCABULARY: dict[str, tuple[str, ...]] = {
  "pairs": (
    "chosen_logps",
    "rejected_logps",
    "ref_chosen_logps",
    "ref_rejected_logps",
    "chosen_lengths",
    "rejected_lengths",
    "chosen_scores",
    "rejected_scores",
    "preference",
  ),
  "sequences": ("logps", "lengths"),
}


def array_parameters(loss: Callable[..., Any]) -> tuple[str, ...]:
  """Names of the positional parameters, in order; bound ones are gone.

  A parameter with a default is no array: a loss needs all of its arrays.
  """
  return tuple(
    p.name
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    and p.default is inspect.Parameter.empty
  )


def hyperparameters(loss: Callable[..., Any]) -> dict[str, Any]:
  """Keyword-only parameters and their defaults, or what a partial bound."""
  return {
    p.name: p.default
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
  }


def name_of(loss: Callable[..., Any]) -> str:
  """Name of a loss, through functools.partial."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  return getattr(loss, "__name__", repr(loss))
