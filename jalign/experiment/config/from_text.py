"""Reads the values of config keys from the texts of flags."""

import ast
import typing
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError


def from_text(text: str, hint: Any, where: str) -> Any:
  """Returns the value that a text stands for.

  Args:
    text: text of a flag. Items of a tuple are separated by commas, "64,128", or
      written as a Python literal; items of a mapping are "name=value".
    hint: type of the value; with Any, the text may be a Python literal or
      anything else, which stays a text.
    where: the key, for errors.

  Raises:
    UserError: the text isn't a value of that type.
  """
  origin = typing.get_origin(hint) or hint
  if origin is str:
    return text
  if origin is bool:
    if text.lower() not in ("true", "false", "1", "0"):
      raise _refuse(f"{text!r} is neither true nor false.", where)
    return text.lower() in ("true", "1")
  if origin is int:
    try:
      return int(text)
    except ValueError:
      raise _refuse(f"{text!r} is not a whole number.", where, text) from None
  if origin is float:
    try:
      return float(text)
    except ValueError:
      raise _refuse(f"{text!r} is not a number.", where, text) from None
  if origin is tuple:
    return _items(text, typing.get_args(hint)[0], where)
  if origin is Mapping:
    value = literal(text)
    if not isinstance(value, dict):
      raise _refuse(f"{text!r} is not a section of keys.", where)
    return value
  return literal(text)


def literal(text: str) -> Any:
  """Returns the value of a Python literal, or else the text itself."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text


def _items(text: str, inner: Any, where: str) -> Any:
  """Reads a tuple from a text, or a mapping where the items are pairs."""
  value = literal(text) if text[:1] in ("(", "[", "{") else None
  pairs = typing.get_origin(inner) is tuple
  if isinstance(value, dict):
    return value if pairs else tuple(value.items())
  if isinstance(value, list | tuple):
    return tuple(value)
  parts = [part.strip() for part in text.split(",") if part.strip()]
  if pairs:
    named = [part.partition("=") for part in parts]
    if not all(map(all, named)):
      raise _refuse(f"{text!r} is not NAME=VALUE,NAME=VALUE.", where)
    return {name: item for name, _, item in named}
  return tuple(from_text(part, inner, where) for part in parts)


def _refuse(problem: str, where: str, text: str = "") -> UserError:
  remedy = "A flag without a value stands for true." if text == "true" else ""
  return UserError(problem, where=where, remedy=remedy)
