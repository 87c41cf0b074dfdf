"""Verifiers: rewards in [0, 1] that are checked rather than judged.

`VERIFIERS` has a function of settings
for each name, `judge_of` makes a judge of a verifier. A response that gives no
answer has the reward 0, and is counted; so is a row without a reference.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError, nearest
from jalign.feedback.answers import Answers, Row
from jalign.feedback.judge import Judge, Parts, from_parts
from jalign.feedback.numbers import Number, agree, answer_of
from jalign.feedback.programs import Limits, code_of, run_tests
from jalign.feedback.values import shortened

_EDGES = " \t\n.,!?;:'\"`*()[]{}“”‘’"


class Verifier(NamedTuple):
  """A function that checks responses.

  Attributes:
    names: names of the numbers to count beside the reward: "answered", 1 where
      a response gives an answer; "no_reference", 1 where a row has nothing to
      compare with; of unit tests "timeouts", the number of tests that ran out
      of time.
    check: `Answers -> {name: [N]}` of these and of "reward", in [0, 1].
  """

  names: tuple[str, ...]
  check: Callable[[Answers], Mapping[str, np.ndarray]]


def judge_of(verifier: Verifier, *, scale: float = 1.0) -> Judge:
  """Makes a judge of a verifier.

  Args:
    verifier: a value that a function of `VERIFIERS` returns.
    scale: inverse temperature of the preferences, > 0.

  Returns:
    A judge whose parts are the verifier's.

  Raises:
    UserError: the scale is out of range.
  """
  return from_parts(Parts(*verifier), scale=scale)


def format_(*, pattern: str) -> Verifier:
  """1 where the whole response matches a regular expression.

  Args:
    pattern: an expression of Python's `re`. White space around the response is
      left out; "(?s)" at the beginning lets "." match newlines.

  Raises:
    UserError: the pattern can't be compiled.
  """
  compiled = _compiled(pattern)
  return _of_each(
    lambda response, row: compiled.fullmatch(response.strip()) is not None
  )


def regex(
  *, pattern: str, column: str = "", ignore_case: bool = True
) -> Verifier:
  """1 where a regular expression is found, or finds what a column has.

  Args:
    pattern: an expression of Python's `re`.
    column: column of the row with one text, or a list of them. The first group
      of the last match (the match itself without groups) is compared with
      these as `exact_match` compares. "" asks only for a match.
    ignore_case: whether "Yes" and "yes" are equal.

  Raises:
    UserError: the pattern can't be compiled; the row lacks the column.
  """
  compiled = _compiled(pattern)

  def check(response: str, row: Row) -> bool | None:
    matches = list(compiled.finditer(response))
    wanted = references(row, column) if column else []
    if not matches:
      return None if column else False
    if not column:
      return True
    given = matches[-1].group(1 if compiled.groups else 0) or ""
    return normalised(given, ignore_case) in {
      normalised(text, ignore_case) for text in wanted
    }

  return _of_each(check, column)


def exact_match(
  *, column: str = "answer", after: str = "", ignore_case: bool = True
) -> Verifier:
  """1 where the response equals one of the row's references.

  Both are normalised: Unicode's NFKC, white space as single blanks, no
  punctuation at either end, and small letters.

  Args:
    column: column of the row with one text, or a list of them.
    after: the answer is what follows the last occurrence of this text, such as
      "Answer:"; a response without it gives no answer. "" compares the whole
      response.
    ignore_case: whether "Yes" and "yes" are equal.

  Raises:
    UserError: the row lacks the column.
  """

  def check(response: str, row: Row) -> bool | None:
    wanted = references(row, column)
    given = normalised(_after(response, after), ignore_case)
    if not given:
      return None
    return given in {normalised(text, ignore_case) for text in wanted}

  return _of_each(check, column)


def numeric(
  *, column: str = "answer", after: str = "", tolerance: float = 1e-6
) -> Verifier:
  """1 where the response's number is one of the row's numbers.

  `jalign.feedback.numbers` says which number a text gives as its answer.

  Args:
    column: column of the row with a number, a text with one, or a list.
    after: as in `exact_match`.
    tolerance: |a - b| may be tolerance max(1, |b|), >= 0.

  Raises:
    UserError: the tolerance is negative; the row lacks the column, or has no
      number there.
  """
  if not tolerance >= 0:
    raise UserError(f"{tolerance} must be >= 0.", where="tolerance")

  def check(response: str, row: Row) -> bool | None:
    wanted = [_number(value, column) for value in _values(row, column)]
    given = answer_of(_after(response, after))
    if given is None:
      return None
    return any(agree(given, number, tolerance) for number in wanted)

  return _of_each(check, column)


def unit_tests(
  *,
  column: str = "tests",
  seconds: float = 5.0,
  memory: int = 512,
  workers: int = 2,
) -> Verifier:
  """The share of the row's tests that the response's code passes.

  The code is the last fenced block of the response. Each test runs after the
  code in a process of its own, within the limits of
  `jalign.feedback.programs`, which says what these hold back.

  Args:
    column: column of the row with a test, or a list of them: texts of Python
      that raise where the code is wrong, such as "assert f(2) == 4".
    seconds: time of a test, > 0.
    memory: MiB of address space.
    workers: number of tests at a time.

  Raises:
    UserError: a limit is out of range; the row lacks the column.
  """
  limits = Limits(seconds, memory, workers)
  run_tests([], limits)  # checks them

  def check(answers: Answers) -> dict[str, np.ndarray]:
    tests = [references(row, column) for row in answers.rows]
    codes = [code_of(text) for text in answers.texts]
    jobs = [
      (i, code, test)
      for i, (code, of_row) in enumerate(zip(codes, tests))
      if code is not None
      for test in of_row
    ]
    outcomes = run_tests([(code, test) for _, code, test in jobs], limits)
    passed, timeouts = np.zeros((2, len(codes)))
    for (i, *_), outcome in zip(jobs, outcomes):
      passed[i] += outcome.passed
      timeouts[i] += outcome.timed_out
    counts = np.array([len(of_row) for of_row in tests], np.float64)
    return {
      "reward": passed / np.maximum(counts, 1),
      "answered": np.array([code is not None for code in codes], np.float64),
      "no_reference": (counts == 0).astype(np.float64),
      "timeouts": timeouts,
    }

  return Verifier(("answered", "no_reference", "timeouts"), check)


VERIFIERS: dict[str, Callable[..., Verifier]] = {
  "format": format_,
  "regex": regex,
  "exact_match": exact_match,
  "numeric": numeric,
  "unit_tests": unit_tests,
}


def make(name: str, where: str = "verifier", **settings: Any) -> Verifier:
  """Makes the verifier of a name.

  Args:
    name: a key of `VERIFIERS`.
    where: config key, for errors.
    **settings: keyword arguments of the function of that name.

  Raises:
    UserError: there is no such verifier, or as the function raises.
  """
  if name not in VERIFIERS:
    raise UserError(
      f"{name!r} is no verifier.", where=where, remedy=nearest(name, VERIFIERS)
    )
  return VERIFIERS[name](**settings)


def normalised(text: str, ignore_case: bool = True) -> str:
  """A text as `exact_match` compares it."""
  text = " ".join(unicodedata.normalize("NFKC", text).split())
  text = text.strip(_EDGES)
  return text.casefold() if ignore_case else text


def references(row: Row, column: str) -> list[str]:
  """The texts in a column of a row: one, several, or none if it is None.

  Raises:
    UserError: the row has no such column, or has something else there.
  """
  values = _values(row, column)
  for value in values:
    if not isinstance(value, str | int | float):
      raise UserError(
        f"a {type(value).__name__} is no reference.",
        where=f"column {column!r}",
        remedy="Give a text or a number, or a list of these.",
      )
  return [value if isinstance(value, str) else str(value) for value in values]


def _values(row: Row, column: str) -> list[Any]:
  if column not in row:
    there = (
      nearest(column, row)
      if row
      else "Name the column in config.data.judge_columns."
    )
    raise UserError(
      f"there is no column {column!r}.", where="row", remedy=there
    )
  value = row[column]
  if value is None:
    return []
  if isinstance(value, list | tuple | np.ndarray):
    return list(value)
  return [value]


def _number(value: Any, column: str) -> Number:
  if isinstance(value, int | float) and np.isfinite(value):
    return Number(Fraction(value))
  number = answer_of(value) if isinstance(value, str) else None
  if number is None:
    what = shortened(value) if isinstance(value, str) else f"{value!r}"
    raise UserError(
      f"{what} has no number.",
      where=f"column {column!r}",
      remedy="Compare texts with the verifier exact_match.",
    )
  return number


def _after(response: str, marker: str) -> str:
  """What follows the last marker; "" without one."""
  if not marker:
    return response
  return response.rpartition(marker)[2] if marker in response else ""


def _compiled(pattern: str) -> re.Pattern:
  try:
    return re.compile(pattern)
  except (re.error, RecursionError) as e:
    raise UserError(
      f"{pattern!r} is no regular expression: {e}.", where="pattern"
    ) from None


def _of_each(
  check: Callable[[str, Row], bool | None], column: str = ""
) -> Verifier:
  """Makes a verifier of `(response, row) -> passed, or None: no answer`."""

  def check_all(answers: Answers) -> dict[str, np.ndarray]:
    found = [
      check(text, row)
      for text, row in zip(answers.texts, answers.rows, strict=True)
    ]
    told = {
      "reward": [bool(x) for x in found],
      "answered": [x is not None for x in found],
    }
    if column:
      told["no_reference"] = [not _values(row, column) for row in answers.rows]
    return {name: np.array(x, np.float64) for name, x in told.items()}

  names = ("answered", "no_reference") if column else ("answered",)
  return Verifier(names, check_all)
