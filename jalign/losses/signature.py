"""Reads a loss's signature: its arrays, hyperparameters, name and formula."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def array_parameters(loss: Callable[..., Any]) -> tuple[str, ...]:
  """Names of the positional parameters, in order: the loss's arrays.

  Parameters that functools.partial has bound are left out, and so is a
  parameter with a default: a loss needs all of its arrays.
  """
  return tuple(
    p.name
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    and p.default is inspect.Parameter.empty
  )


def hyperparameters(loss: Callable[..., Any]) -> dict[str, Any]:
  """Keyword-only parameters, with their defaults or a partial's values."""
  return {
    p.name: p.default
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
  }


def name_of(loss: Callable[..., Any]) -> str:
  """Name of a loss, or of the loss inside a functools.partial."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  return getattr(loss, "__name__", repr(loss))


def formula_of(loss: Callable[..., Any]) -> str:
  """The formula of a loss: its docstring's second paragraph, as one line."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  paragraphs = (inspect.getdoc(loss) or "").split("\n\n")
  return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""
