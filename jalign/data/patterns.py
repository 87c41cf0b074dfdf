"""Refuses regular expressions of tokenizers that could run for years.

The `tokenizers` library matches by backtracking (Oniguruma). A repeated group
that holds a repetition or alternatives can divide a text in exponentially many
ways, all of which are tried for a text that doesn't match. The library gives up
after some million tries at one place of a text, and panics.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

from jalign.errors import UserError

# The parts of a pattern: an escape, a property, a comment or a group's
# beginning, a quantifier with its mode (greedy, lazy, possessive), or any other
# character.
_PARTS = re.compile(
  r"\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\.|\(\?#[^)]*\)|\(\?[a-zA-Z-]*:|\(\?<?[=!]"
  r"|\(\?<\w+>|\(\?>|[*+?][?+]?|\{\d*,?\d*\}[?+]?|.",
  re.DOTALL,
)
# Classes of characters that have no character in common.
_APART = {r"\p{L}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}", r"\s"}


def check_patterns(backend: tokenizers.Tokenizer, where: str) -> None:
  """Raises UserError for a pattern that could match some text for years.

  Args:
    backend: a tokenizer's, which a stranger may have written.
    where: the tokenizer's folder, for errors.
  """
  for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder):
    if part is None:
      continue
    for pattern in _patterns(json.loads(part.__getstate__())):
      if repeats_repetitions(pattern):
        raise UserError(
          f"the tokenizer's pattern {pattern[:60]!r} repeats a group that has"
          " repetitions or alternatives: a text could be tried for years.",
          where=where,
          remedy="Write the pattern without such a group in tokenizer.json, as"
          " [ab]+ for (a|b)+.",
        )


def panicked(error: BaseException) -> bool:
  """Whether the error is a panic of a library in Rust, which is no Exception.

  Raises:
    BaseException: the error itself, if it is one that ends the program.
  """
  panic = type(error).__name__ == "PanicException"
  if not panic and not isinstance(error, Exception):
    raise error
  return panic


def _patterns(part: Any) -> Iterator[str]:
  if isinstance(part, dict):
    for key, value in part.items():
      if key == "Regex" and isinstance(value, str):
        yield value
      else:
        yield from _patterns(value)
  elif isinstance(part, list):
    for value in part:
      yield from _patterns(value)


def repeats_repetitions(pattern: str) -> bool:
  """Whether a group repeated without bound has alternatives or repetitions.

  Args:
    pattern: in Oniguruma's syntax. Groups that give nothing back (`*+`, `(?>`)
      are fine, and so are parts that can't be taken for each other, as in
      `(\\p{L}\\p{M}*)+`.
  """
  groups: list[list[str]] = [[]]  # parts of the open groups
  depth = 0  # of nested character classes
  for part in _PARTS.findall(pattern):
    here = groups[-1]
    if depth or part == "[":
      depth += (part == "[") - (part == "]")
      here[-1:] = [here[-1] + part] if depth > 1 or part != "[" else here[-1:]
      if depth == 1 and part == "[":
        here.append("[")
    elif part.startswith("(") and not part.startswith("(?#"):
      groups.append([part])
    elif part == ")" and len(groups) > 1:
      inner = groups.pop()
      groups[-1].append("".join(inner) + ")")
      if _ambiguous(inner):
        groups[-1].append("ambiguous")
    elif _unbounded(part) and not part[1:].endswith("+"):
      if here and here[-1] == "ambiguous":
        return True
      here.append(part)
    else:
      here.append(part)
  return False


def _unbounded(part: str) -> bool:
  """Whether a quantifier allows more than ten repetitions."""
  if part[0] == "{" and len(part) > 1:
    _, comma, most = part[1:].partition("}")[0].partition(",")
    least = part[1:].partition("}")[0].partition(",")[0]
    return int((most if comma else least) or 99) > 10
  return part[0] in "*+"


def _ambiguous(inner: list[str]) -> bool:
  """Whether a group's repetition can divide a text in several ways."""
  if inner[0] == "(?>" or inner[0].startswith(("(?=", "(?!", "(?<")):
    return False
  if "ambiguous" in inner or "|" in inner:
    return True
  atoms = [x for x in inner[1:] if x[0] not in "*+?{"]
  many = [x for x in inner[1:] if _unbounded(x) and x not in atoms]
  optional = len(inner) > 2 and inner[2][0] in "*?"
  apart = set(atoms) <= _APART and len(set(atoms)) == len(atoms)
  return bool(many) and not (apart and not optional and inner[2:3] != ["+"])
