"""Reads a loss's signature: its arrays, hyperparameters, name and formula."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jalign.errors import UserError


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


def check_settings(
  name: str, function: Callable[..., Any], settings: Mapping[str, Any]
) -> None:
  """Raises UserError if a loss takes no such hyperparameter."""
  known = hyperparameters(function)
  for key in settings:
    if key not in known:
      takes = ", ".join(f"{k}={v}" for k, v in known.items()) or "none"
      raise UserError(
        f"{name} has no hyperparameter {key!r}.",
        where=f"loss.{key}",
        remedy=f"It has: {takes}.",
      )


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
