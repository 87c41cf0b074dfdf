"""Judges by principles: see `jalign.feedback.constitution`."""

from collections.abc import Iterable, Sequence
from typing import Any

from jalign import data
from jalign.data.file_check import guess
from jalign.errors import UserError, nearest
from jalign.experiment.config import code
from jalign.experiment.judges.checked import (
  check_type,
  factors_of,
  file_hash,
  unscaled,
)
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.feedback import Answers, Judge, make_answers
from jalign.feedback.constitution import (
  Principles,
  ballots,
  decision_list,
  from_constitution,
  kept,
  of_factor,
  of_factors,
  tally,
)
from jalign.feedback.rules import Factors
from jalign.hosts import say

_SIGNS = {"+": 1, "-": -1}


def _make(
  named: Named,
  *,
  principles: Sequence[str] = (),
  pairs: str = "",
  most: int = 5,
  in_turn: bool = False,
  tremble: float = 0.0,
) -> Judge:
  """Makes a judge by principles "+FACTOR" (more is better) and "-FACTOR".

  Args:
    named: the judge's description; its function gives the factors.
    principles: the constitution, the most important first; with `pairs`, the
      principles to choose from, or () for both of each factor.
    pairs: file of labelled pairs that choose and order the principles; "" takes
      them as they are given.
    most: largest number of principles that `pairs` choose.
    in_turn: whether the pairs choose by `constitution.decision_list` in place
      of `constitution.kept`.
    tremble: probability of the opposite verdict.
  """
  where = f"{named.where}.settings"
  unscaled(named)
  for name, value, kind in (
    ("pairs", pairs, str),
    ("most", most, int),
    ("in_turn", in_turn, bool),
    ("tremble", tremble, float),
  ):
    check_type(value, kind, f"{where}.{name}")
  if isinstance(principles, str) or not all(
    isinstance(x, str) and x[:1] in _SIGNS for x in principles
  ):
    raise UserError(
      f"{principles!r} isn't a list of principles.",
      where=f"{where}.principles",
      remedy="Write +FACTOR or -FACTOR, such as ('+coverage', '-words').",
    )
  factors = factors_of(named)
  found = list(principles)
  proposed: Principles = {
    x: of_factor(factors, x[1:], _SIGNS[x[0]]) for x in found
  }
  if pairs:
    sides = _labelled(pairs, f"{where}.pairs")
    proposed = proposed or _of_all(factors, sides[0])
    _check_factors(factors, sides[0], found, f"{where}.principles")
    votes = ballots(proposed, *sides)
    names = list(proposed)
    found = (
      decision_list(names, votes, most=most)
      if in_turn
      else kept(tally(names, votes), most=most)
    )
    if not found:
      raise UserError(
        f"no principle agrees with more labels of {len(sides[0].texts)} pairs"
        " than it contradicts.",
        where=f"{where}.pairs",
        remedy="Give other factors, or pairs with other labels.",
      )
    say(f"[judge] constitution of {pairs}: {', '.join(found)}")
  return from_constitution(
    proposed, found, tremble=tremble, where=f"{where}.principles"
  )


def _of_all(factors: Factors, answers: Answers) -> Principles:
  """Both principles of each factor."""
  return of_factors(factors, list(factors(answers.take([0]))))


def _check_factors(
  factors: Factors, answers: Answers, names: Sequence[str], where: str
) -> None:
  there = factors(answers.take([0]))
  for name in names:
    if name[1:] not in there:
      raise UserError(
        f"there is no factor {name[1:]!r}.",
        where=where,
        remedy=nearest(name[1:], there),
      )


def _labelled(path: str, where: str) -> tuple[Answers, Answers]:
  """Chosen and rejected answers of a file of pairs, as their labels say."""
  try:
    records, report = data.read(guess(path), path)
  except UserError as e:
    at = f"{where}: {e.where}"
    raise UserError(e.problem, where=at, remedy=e.remedy) from None
  say(f"[judge] {report.summary()}")
  chosen, rejected, prompts = [], [], []
  for record in records:
    if not isinstance(record, data.PreferenceRecord):
      raise UserError(
        "the file has no labelled pairs.",
        where=f"{where}: {path}",
        remedy='Rows have "prompt", "chosen" and "rejected".',
      )
    sides = record.chosen, record.rejected
    turned = record.preference is not None and record.preference < 0.5
    better, worse = reversed(sides) if turned else sides
    prompts.append(record.plain or record.prompt)
    chosen.append(better)
    rejected.append(worse)
  return make_answers(prompts, chosen), make_answers(prompts, rejected)


def _made_of(
  named: Named, *, pairs: str = "", **settings: Any
) -> Iterable[str]:
  del settings
  yield code.fingerprint(named.function)
  if pairs:
    yield file_hash(pairs, f"{named.where}.settings.pairs")


CONSTITUTION = JudgeKind(
  "a function `(prompts, responses)` of two lists that returns a dictionary of"
  " numbers by factor; the first of `principles` that isn't silent decides, or"
  " of those that labelled `pairs` choose",
  _make,
  _made_of,
)
