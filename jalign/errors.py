"""The one exception that a user can cause and mend, and words about others."""

import difflib
import functools
import inspect
import pathlib
import textwrap
import types
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
  """Bad input: the message says what was wrong, where, and what to do.

  One paragraph, no stack trace needed: the command line prints it alone and
  exits with code 2. `where` is a file and line, a config key or a params path.
  """

  def __init__(self, problem: str, *, where: str = "", remedy: str = ""):
    parts = [f"{where}: {problem}" if where else problem, remedy]
    super().__init__(" ".join(part for part in parts if part))
    self.problem, self.where, self.remedy = problem, where, remedy

  def paragraph(self, program: str) -> str:
    """What a command prints of it, in lines of at most 79 characters."""
    return textwrap.fill(
      printable(f"{program}: error: {' '.join(str(self).split())}"),
      79,
      break_long_words=False,  # paths stay whole
      break_on_hyphens=False,
    )


def printable(text: str) -> str:
  """The text with escapes for what a terminal would obey or can't show."""
  return "".join(
    c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text
  )


def nearest(name: str, known: Iterable[str]) -> str:
  """A remedy for a wrong name: the one that was meant, and all there are."""
  names = [str(candidate)[:80] for candidate in known]
  near = difflib.get_close_matches(name, names, n=1)
  meant = f"Did you mean {near[0]!r}? " if near else ""
  more = f" and {len(names) - 30} more" if len(names) > 30 else ""
  there = ", ".join(map(repr, names[:30])) or "none"
  return f"{meant}There are: {there}{more}."


def said(error: BaseException, most: int = 300) -> str:
  """An exception in a line, for people."""
  try:
    text = str(error)
    if isinstance(error, KeyError):  # a name in Python's marks
      text = text.strip("'\"").replace("\\n", " ").replace("\\'", "'")
    text = " ".join(text.split())
  except Exception:  # one whose own text fails
    text = ""
  kind = type(error).__name__
  text = text if len(text) <= most else f"{text[:most]}..."
  return f"{kind}: {text.removesuffix('.')}" if text else kind


def code_of(function: Any) -> types.CodeType | None:
  """The code of a function, or of the class of another callable."""
  inner = inspect.unwrap(function)
  while isinstance(inner, functools.partial):
    inner = inspect.unwrap(inner.func)
  if not hasattr(inner, "__code__"):
    inner = inspect.getattr_static(type(inner), "__call__", None)
  return getattr(inner, "__code__", None)


def line_of(error: BaseException, path: pathlib.Path) -> str:
  """ "file:line" of an error: the last of its lines in a user's file."""
  if isinstance(error, SyntaxError) and error.filename == str(path):
    return f"{path}:{error.lineno}"
  line, trace = None, error.__traceback__
  while trace is not None:
    file = trace.tb_frame.f_code.co_filename
    if file == str(path) or pathlib.Path(file).resolve() == path:
      line = trace.tb_lineno
    trace = trace.tb_next
  return f"{path}" if line is None else f"{path}:{line}"
