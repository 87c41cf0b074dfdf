"""Flags of a command, and what to say when they are wrong."""

import contextlib
import math
import re
from collections.abc import Iterator, Sequence

from absl import flags

from jalign.errors import UserError

SEEDS = 2**63 - 1  # the largest
# What Python says of texts that are no numbers.
_INTEGER = r"invalid literal for int\(\) with base 10: (.*)"
_FLOAT = r"could not convert string to float: (.*)"


def parse_flags(
  values: flags.FlagValues, arguments: Sequence[str], words: int = 0
) -> list[str]:
  """Parses flags; whatever is wrong with them is the user's.

  Returns:
    At most `words` arguments that are no flags.

  Raises:
    UserError: an unknown flag, or a value that it can't have: NaN, infinity
      and the character NUL, above what its own bounds say.
  """
  values.set_gnu_getopt()  # flags may follow the words
  with flag_errors(arguments):
    words_left = values(["jalign", *arguments])[1:]
  for name in values:
    if not name.startswith("config"):  # those are checked as settings
      _check(name, values[name].value)
  for word in words_left:
    _check("", word)
  if len(words_left) > words:
    raise UserError(
      f"{words_left[words]!r} is not a flag.", remedy="Flags begin with --."
    )
  return words_left


@contextlib.contextmanager
def flag_errors(arguments: Sequence[str]) -> Iterator[None]:
  """Turns what absl and ml_collections raise of flags into UserError."""
  try:
    yield
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    if isinstance(e, UserError):
      raise
    text = _plain(str(e.args[0]) if e.args else str(e))
    for argument in arguments:
      key = argument.lstrip("-").partition("=")[0]
      if key.startswith("config.") and key.rpartition(".")[2] in text:
        raise UserError(
          f"can't be set ({text}).",
          where=key,
          remedy="Keys and their defaults: experiments/configs/base.py.",
        ) from e
    flag = re.fullmatch(r"flag (--[\w.]+)=.*?: (.*)", text)
    where, said = flag.groups() if flag else ("flags", text)
    end = "" if said.endswith(("?", ".")) else "."
    raise UserError(f"{said}{end}", where=where) from e


def _plain(text: str) -> str:
  """A message without the marks of Python's own tuples and quotes."""
  text = re.sub(r"\('([^']*)', '([^']*)'\)", r"\1: \2", text)
  text = re.sub(_INTEGER, r"\1 is not a whole number", text)
  text = re.sub(_FLOAT, r"\1 is not a number", text)
  whole = re.fullmatch(r"""(['"])(.*)\1""", text, re.DOTALL)
  return " ".join((whole[2] if whole else text).split()).replace(" ?", "?")


def _check(name: str, value: object) -> None:
  where = f"--{name}" if name else ""
  for item in value if isinstance(value, list) else [value]:
    if isinstance(item, float) and not math.isfinite(item):
      raise UserError(f"{item} is not a finite number.", where=where)
    if isinstance(item, str) and "\0" in item:
      raise UserError("holds the character NUL.", where=where)
