"""Reads verdicts and ratings out of the texts that language models answer.

A text that can't be read gives None, which stands for no answer. None is never
taken for a tie, and a text that says two different things is not guessed at.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign.errors import UserError

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_VERDICT = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_SCORES = re.compile(
  rf"scores?\s*:\s*({_NUMBER})\s*[,;/ ]\s*({_NUMBER})(?!\.?\d)", re.IGNORECASE
)
_RATING = re.compile(rf"\[\[\s*({_NUMBER})\s*\]\]")
_POINTS = re.compile(
  rf"\bscore\s*:\s*({_NUMBER})(?!\.?\d)(?:\s*/\s*\d+)?", re.IGNORECASE
)
_AROUND = " \t\r\n.,:;'\"`*()[]"


class Reader(NamedTuple):
  """Reads an answer.

  Attributes:
    read: `text -> value`, or None for a text that can't be read. The value is
      P(the first response is preferred) of a pair, (score of the first, score
      of the second) where `scores` says so, or the rating of one response.
    pairs: whether the answer is about two responses.
    scores: whether the value of a pair is two scores.
    labels: what the verdict may be written as -> P(the first is preferred), for
      judges that read the labels' probabilities; {} where there are none.
    key: what decides the values, for the names of caches and for errors.
  """

  read: Callable[[str], Any]
  pairs: bool
  scores: bool = False
  labels: Mapping[str, float] = {}
  key: str = ""


def verdict(text: str) -> float | None:
  """1, 0 or 1/2 for [[A]], [[B]] or [[C]]; None for none or several."""
  said = set(_VERDICT.findall(text))
  return {"A": 1.0, "B": 0.0, "C": 0.5}[said.pop()] if len(said) == 1 else None


def letter(first: str = "m", second: str = "M") -> Reader:
  """Makes a reader of answers that are the name of the better one alone.

  Args:
    first: name of the first response; case counts.
    second: name of the second response.
  """
  labels = {first: 1.0, second: 0.0}
  return Reader(
    lambda text: labels.get(text.strip(_AROUND)),
    pairs=True,
    labels=labels,
    key=f"letter {first} {second}",
  )


def scores(low: float = 1, high: float = 10) -> Reader:
  """Makes a reader of "Scores: 6, 8"; several different ones can't be read.

  Args:
    low: the least score.
    high: the largest score; scores out of range can't be read.
  """

  def read(text: str) -> tuple[float, float] | None:
    said = {(float(x), float(y)) for x, y in _SCORES.findall(text)}
    if len(said) != 1:
      return None
    pair = said.pop()
    return pair if all(low <= x <= high for x in pair) else None

  return Reader(read, pairs=True, scores=True, key=f"scores {low} {high}")


def rating(low: float = 1, high: float = 7) -> Reader:
  """Makes a reader of "[[5]]", or of a number alone.

  Args:
    low: the least rating.
    high: the largest rating; ratings out of range can't be read.
  """

  def read(text: str) -> float | None:
    said = {float(x) for x in _RATING.findall(text)}
    alone = text.strip(_AROUND)
    if not said and re.fullmatch(_NUMBER, alone):
      said = {float(alone)}
    return _inside(said, low, high)

  return Reader(read, pairs=False, key=f"rating {low} {high}")


def additive(low: float = 0, high: float = 5) -> Reader:
  """Makes a reader of "Score: 4", as of judges that add points.

  Yuan et al. 2024, "Self-Rewarding Language Models", arXiv:2401.10020.

  Args:
    low: the least number of points.
    high: the largest; points out of range can't be read.
  """

  def read(text: str) -> float | None:
    return _inside({float(x) for x in _POINTS.findall(text)}, low, high)

  return Reader(read, pairs=False, key=f"additive {low} {high}")


def expression(
  pattern: str,
  *,
  pairs: bool,
  values: Mapping[str, float] | None = None,
  low: float | None = None,
  high: float | None = None,
) -> Reader:
  """Makes a reader from a regular expression of one's own.

  Args:
    pattern: with one group, whose text is the value; all matches must say the
      same.
    pairs: whether the value is P(the first of two is preferred).
    values: text of the group -> value; None takes the text for a number.
    low: the least number; by default 0 for pairs, no bound otherwise.
    high: the largest number; by default 1 for pairs, no bound otherwise.

  Raises:
    UserError: the pattern is no regular expression with one group, or a value
      is out of range.
  """
  where = "expression"
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise UserError(
      f"{pattern!r} is no regular expression ({error}).",
      where=where,
      remedy="Mend it; see the documentation of Python's re.",
    ) from None
  if compiled.groups != 1:
    raise UserError(
      f"{pattern!r} has {compiled.groups} groups, and must have one.",
      where=where,
      remedy="Put parentheses around the value, and write (?:...) elsewhere.",
    )
  least = (0.0 if pairs else float("-inf")) if low is None else low
  most = (1.0 if pairs else float("inf")) if high is None else high
  for value in (values or {}).values():
    if not least <= value <= most:
      raise UserError(
        f"{value} is not in [{least:g}, {most:g}].", where=f"{where}.values"
      )

  def read(text: str) -> float | None:
    said = set(compiled.findall(text))
    if values is not None:
      found = {values.get(x.strip()) for x in said}
      return found.pop() if len(found) == 1 else None
    if not all(re.fullmatch(_NUMBER, x.strip()) for x in said):
      return None
    return _inside({float(x) for x in said}, least, most)

  key = f"expression {pattern} {sorted((values or {}).items())} {least} {most}"
  labels = (values or {}) if pairs else {}
  return Reader(read, pairs=pairs, labels=labels, key=key)


def _inside(said: set[float], low: float, high: float) -> float | None:
  """The only number, if it is in range."""
  number = said.pop() if len(said) == 1 else None
  return number if number is not None and low <= number <= high else None


VERDICT = Reader(
  verdict, True, labels={"A": 1.0, "B": 0.0, "C": 0.5}, key="verdict"
)
LETTER = letter()
SCORES = scores()
RATING = rating()

# Readers by name, for prompts of one's own.
READERS: dict[str, Callable[..., Reader]] = {
  "verdict": lambda: VERDICT,
  "letter": letter,
  "scores": scores,
  "rating": rating,
  "additive": additive,
  "expression": expression,
}
