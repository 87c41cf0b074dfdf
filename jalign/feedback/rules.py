"""Judges that compare factors one after another, each with a margin.

Bukharin et al. 2023, "Deep Reinforcement Learning from Hierarchical Preference
Design" (HERON), arXiv:2309.02632: the first factor whose difference exceeds its
margin decides. A pair on which no factor decides has no label.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError, nearest
from jalign.feedback.answers import Answers
from jalign.feedback.counts import Tally
from jalign.feedback.judge import Judge
from jalign.feedback.values import vector

Factors = Callable[[Answers], Mapping[str, ArrayLike]]
_ROUNDING = 1e-9  # differences of shares such as 1/3 and 1 - 2/3


class Rule(NamedTuple):
  """A factor and how it decides.

  Attributes:
    factor: name of the factor.
    sign: 1 where more is better, -1 where less is.
    margin: the factor decides where the difference exceeds this number, >= 0.
  """

  factor: str
  sign: int = 1
  margin: float = 0.0


class Decision(NamedTuple):
  """How N pairs were decided.

  Attributes:
    verdict: [N] 1 for the first response, -1 for the second, 0 for neither.
    level: [N] index of the rule that decided; -1 where none did.
  """

  verdict: np.ndarray
  level: np.ndarray


def decide(differences: ArrayLike, margins: ArrayLike) -> Decision:
  """Decides pairs by the first difference that exceeds its margin.

  Args:
    differences: [N, L] signed differences, first response less second, of L
      factors, the most important first; NaN decides nothing.
    margins: [L] margins, >= 0.
  """
  difference = np.asarray(differences, np.float64)
  over = np.abs(difference) > np.asarray(margins, np.float64) + _ROUNDING
  some = over.any(1)
  level = np.where(some, over.argmax(1), -1)
  rows = np.arange(len(difference))
  verdict = np.where(some, np.sign(difference[rows, level]), 0.0)
  return Decision(verdict, level)


def margins_of(values: ArrayLike, fraction: float) -> np.ndarray:
  """[L] margins: a fraction of each factor's standard deviation on a sample.

  Args:
    values: [N, L] values of L factors of N responses.
    fraction: >= 0.
  """
  if not fraction >= 0:
    raise UserError(f"{fraction} must be >= 0.", where="fraction")
  return fraction * np.asarray(values, np.float64).std(0)


def from_rules(
  factors: Factors,
  rules: Sequence[Rule],
  *,
  tremble: float = 0.0,
  where: str = "annotator",
) -> Judge:
  """Makes a judge that compares responses by rules.

  A pair that no rule decides has no answer (NaN): it is left out, and counted.
  The judge counts how many pairs each rule decided.

  Args:
    factors: `Answers -> {factor: [N] numbers}`.
    rules: rules, the most important first.
    tremble: probability of the opposite verdict, in [0, 1/2].
    where: config key, for errors.

  Raises:
    UserError: a rule is out of range; when the judge is asked: there is no such
      factor.
  """
  if not rules:
    raise UserError(
      "there are no rules.",
      where=f"{where}.rules",
      remedy="Write one or more, each (factor, 1 or -1, margin).",
    )
  for rule in rules:
    if rule.sign not in (1, -1) or not 0 <= rule.margin < np.inf:
      raise UserError(
        f"{tuple(rule)} is no rule.",
        where=f"{where}.rules",
        remedy="Write (factor, 1 or -1, margin >= 0).",
      )
  if not 0 <= tremble <= 0.5:
    raise UserError(f"{tremble} is outside [0, 1/2].", where=f"{where}.tremble")
  tally = Tally()

  def values(answers: Answers) -> np.ndarray:
    told = factors(answers)
    for rule in rules:
      if rule.factor not in told:
        raise UserError(
          f"there is no factor {rule.factor!r}.",
          where=f"{where}.rules",
          remedy=nearest(rule.factor, told),
        )
    count = len(answers.texts)
    return np.stack([vector(told[rule.factor], count) for rule in rules], 1)

  def preference(a: Answers, b: Answers) -> np.ndarray:
    signs = np.array([rule.sign for rule in rules], np.float64)
    difference = signs * (values(a) - values(b))
    found = decide(difference, [rule.margin for rule in rules])
    levels = [(f"by {rule.factor}", i) for i, rule in enumerate(rules)]
    tally.add(
      {
        name: int((found.level == i).sum())
        for name, i in [*levels, ("undecided", -1)]
      }
    )
    p = 0.5 + (0.5 - tremble) * found.verdict
    return np.where(found.level < 0, np.nan, p)

  return Judge(preference=preference, answers_all=False, counts=tally.counts)
