"""The signature of a loss is its contract; this reads it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


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


def formula_of(loss: Callable[..., Any]) -> str:
  """The formula in a loss's docstring: its second paragraph, in one line."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  paragraphs = (inspect.getdoc(loss) or "").split("\n\n")
  return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""
