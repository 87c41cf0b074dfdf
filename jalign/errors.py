"""UserError, the exception for bad input, and short texts about any error."""

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

  The message is one paragraph and needs no stack trace: the command line prints
  the paragraph alone and exits with code 2.

  Args:
    problem: what was wrong, a sentence.
    where: a file and line, a flag, a config key or a path in the params.
    remedy: what the user can do, a sentence.
  """

  def __init__(self, problem: str, *, where: str = "", remedy: str = ""):
    parts = [f"{where}: {problem}" if where else problem, remedy]
    super().__init__(" ".join(part for part in parts if part))
    self.problem, self.where, self.remedy = problem, where, remedy

  def paragraph(self, program: str) -> str:
    """The text that a command prints, in lines of at most 79 characters."""
    return textwrap.fill(
      printable(f"{program}: error: {' '.join(str(self).split())}"),
      79,
      break_long_words=False,  # paths stay whole
      break_on_hyphens=False,
    )


def printable(text: str) -> str:
  """The text, with characters that a terminal would obey or can't show escaped.

  Newlines and tabs stay.
  """
  return "".join(
    c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text
  )


def meant(name: str, known: Iterable[str]) -> str:
  """Asks for the known name that is closest; "" where no name is close."""
  near = difflib.get_close_matches(name, list(known), n=1)
  return f"Did you mean {near[0]!r}? " if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
  """A remedy for an unknown name: the closest known name and the known names.

  Args:
    name: the unknown name.
    known: the names that exist; the remedy lists at most 40 of them.
  """
  names = [str(candidate)[:80] for candidate in known]
  more = f" and {len(names) - 40} more" if len(names) > 40 else ""
  there = ", ".join(map(repr, names[:40])) or "none"
  return f"{meant(name, names)}There are: {there}{more}."


def said(error: BaseException, most: int = 300) -> str:
  """One line for people: an exception's type and at most `most` characters."""
  try:
    text = str(error)
    if isinstance(error, KeyError):  # its text is a name in quotes
      text = text.strip("'\"").replace("\\n", " ").replace("\\'", "'")
    text = " ".join(text.split())
  except Exception:  # the error's own __str__ fails
    text = ""
  kind = type(error).__name__
  text = text if len(text) <= most else f"{text[:most]}..."
  return f"{kind}: {text.removesuffix('.')}" if text else kind


def code_of(function: Any) -> types.CodeType | None:
  """The code object of a function, through wrappers and functools.partial.

  For another callable this is the code of its class's `__call__`; None where
  there is no Python code.
  """
  inner = inspect.unwrap(function)
  while isinstance(inner, functools.partial):
    inner = inspect.unwrap(inner.func)
  if not hasattr(inner, "__code__"):
    inner = inspect.getattr_static(type(inner), "__call__", None)
  return getattr(inner, "__code__", None)


def line_of(error: BaseException, path: pathlib.Path) -> str:
  """ "file:line" of the last line of a user's file that an error went through.

  The path alone where the error went through no line of the file.
  """
  if isinstance(error, SyntaxError) and error.filename == str(path):
    return f"{path}:{error.lineno}"
  line, trace = None, error.__traceback__
  while trace is not None:
    file = trace.tb_frame.f_code.co_filename
    if file == str(path) or pathlib.Path(file).resolve() == path:
      line = trace.tb_lineno
    trace = trace.tb_next
  return f"{path}" if line is None else f"{path}:{line}"
