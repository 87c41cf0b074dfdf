"""Constitutions: principles that explain labelled pairs, and judge new ones.

Findeis et al. 2024, "Inverse Constitutional AI: Compressing Preferences into
Principles", arXiv:2406.06560. Principles vote on labelled pairs; those that
explain the labels are kept, ordered and cut; a judge uses them. The paper's
principles are sentences that a language model proposes, clusters and votes by.
Here a principle is a function, so proposals and clusters aren't needed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError, nearest
from jalign.feedback.answers import Answers
from jalign.feedback.counts import Tally
from jalign.feedback.judge import Judge
from jalign.feedback.noise import draws
from jalign.feedback.rules import Factors, Rule, decide
from jalign.feedback.values import vector

# [N]: 1 for the first of two answers, -1 for the second, 0 where the principle
# is silent, NaN where the vote is invalid.
Principle = Callable[[Answers, Answers], ArrayLike]
Principles = Mapping[str, Principle]


class Votes(NamedTuple):
  """How K principles voted on labelled pairs.

  Attributes:
    names: names of the principles.
    agree: [K] number of pairs on which the principle is for the label.
    against: [K] number of pairs on which it is against the label.
    silent: [K] number of pairs on which it says nothing.
    invalid: [K] number of pairs without a valid vote.
  """

  names: tuple[str, ...]
  agree: np.ndarray
  against: np.ndarray
  silent: np.ndarray
  invalid: np.ndarray


def of_factor(factors: Factors, name: str, sign: int) -> Principle:
  """The principle to prefer more (or less) of a factor.

  Args:
    factors: `Answers -> {factor: [N] numbers}`.
    name: name of the factor.
    sign: 1 for more, -1 for less.
  """

  def vote(a: Answers, b: Answers) -> np.ndarray:
    sides = []
    for answers in (a, b):
      told = factors(answers)
      if name not in told:
        raise UserError(
          f"there is no factor {name!r}.",
          where="principles",
          remedy=nearest(name, told),
        )
      sides.append(vector(told[name], len(answers.texts)))
    rule = Rule(name, sign)
    return decide(
      (sign * (sides[0] - sides[1]))[:, None], [rule.margin]
    ).verdict

  return vote


def of_factors(factors: Factors, names: Sequence[str]) -> dict[str, Principle]:
  """The principles "+NAME" and "-NAME" of several factors."""
  return {
    f"{mark}{name}": of_factor(factors, name, sign)
    for name in names
    for mark, sign in (("+", 1), ("-", -1))
  }


def ballots(
  principles: Principles, chosen: Answers, rejected: Answers, *, seed: int = 0
) -> np.ndarray:
  """[K, N] votes for (1) and against (-1) the labels; 0 silent, NaN invalid.

  Half of the pairs, drawn by a hash of their texts, are shown with the rejected
  response first, so that a principle gains nothing by the order.

  Args:
    principles: K principles.
    chosen: the preferred answers of N pairs.
    rejected: the other answers.
    seed: seed of the draws.

  Raises:
    UserError: a principle gives something else than a vote for each pair.
  """
  count = len(chosen.texts)
  texts = chosen.prompts, chosen.texts, rejected.texts
  swapped = draws(seed, "order", *texts) < 0.5
  sides = (chosen, rejected)
  first, second = (
    Answers(
      chosen.prompts,
      [sides[s ^ at].texts[i] for i, s in enumerate(swapped.tolist())],
      chosen.rows,
    )
    for at in (0, 1)
  )
  found = [
    _votes(name, vote(first, second), count)
    for name, vote in principles.items()
  ]
  return np.array(found).reshape(-1, count) * np.where(swapped, -1, 1)


def tally(names: Sequence[str], votes: ArrayLike) -> Votes:
  """Counts ballots [K, N] of K named principles."""
  cast = np.asarray(votes, np.float64)
  agree, against, silent = ((cast == x).sum(1) for x in (1, -1, 0))
  return Votes(tuple(names), agree, against, silent, np.isnan(cast).sum(1))


def kept(
  votes: Votes,
  *,
  most: int = 5,
  least_share: float = 0.0,
  over_silent: bool = False,
  by_agreement: bool = False,
) -> list[str]:
  """The constitution: principles that explain the labels, best first.

  A principle is kept if it is more often for than against, if it is for at
  least a share of all votes, and unless half of its votes or more are invalid.
  The order is that of for - against; this is the filter of the released code.

  Args:
    votes: counts of N votes on the same pairs.
    most: largest number of principles.
    least_share: least share of all votes that are for the label, in [0, 1].
    over_silent: whether a principle must also be for more often than silent.
    by_agreement: whether the order is that of votes for alone.
  """
  valid = votes.agree + votes.against + votes.silent
  good = votes.agree > votes.against
  good &= votes.agree >= least_share * (valid + votes.invalid)
  good &= votes.invalid < valid
  if over_silent:
    good &= votes.agree > votes.silent
  value = votes.agree if by_agreement else votes.agree - votes.against
  order = np.argsort(-value, kind="stable")
  return [votes.names[i] for i in order if good[i]][:most]


def decision_list(
  names: Sequence[str],
  votes: ArrayLike,
  *,
  most: int = 5,
  least_share: float = 0.01,
) -> list[str]:
  """The constitution as a list in which each principle decides what is left.

  The next principle is the one whose votes on the pairs that all earlier ones
  were silent on agree best with the labels, (for + 1) / (for + against + 2).
  This is our addition for labels of lexicographic raters, after the decision
  lists of Rivest 1987; the released code orders by `kept`.

  Args:
    names: K names.
    votes: [K, N] ballots.
    most: largest number of principles.
    least_share: a principle must vote on this share of all pairs among those
      that are left.
  """
  cast = np.nan_to_num(np.asarray(votes, np.float64))
  left = np.ones(cast.shape[1], bool)
  found: list[str] = []
  while len(found) < most and left.any():
    agree, against = ((cast[:, left] == x).sum(1) for x in (1, -1))
    enough = agree + against >= max(least_share * cast.shape[1], 1)
    value = np.where(enough, (agree + 1) / (agree + against + 2), 0.0)
    # Of equal values, the one that votes on more pairs.
    best = int(np.lexsort((-(agree + against), -value))[0])
    if value[best] <= 0.5:
      break
    found.append(names[best])
    left &= cast[best] == 0
  return found


def reconstructed(
  names: Sequence[str], votes: ArrayLike, constitution: Sequence[str]
) -> np.ndarray:
  """[N] whether a constitution finds each pair's label: 1, 0, or 1/2 if silent.

  Args:
    names: K names.
    votes: [K, N] ballots on the pairs, which should be held out.
    constitution: some of the names, the most important first.
  """
  at = [list(names).index(name) for name in constitution]
  cast = np.asarray(votes, np.float64)[at].T
  return 0.5 + 0.5 * decide(cast, [0.0] * len(at)).verdict


def from_constitution(
  principles: Principles,
  constitution: Sequence[str],
  *,
  tremble: float = 0.0,
  where: str = "annotator",
) -> Judge:
  """Makes a judge by whose verdict the first principle that isn't silent wins.

  A pair on which all principles are silent has no answer (NaN). The judge
  counts what each principle decided.

  Args:
    principles: principles by their names.
    constitution: some of these names, the most important first.
    tremble: probability of the opposite verdict, in [0, 1/2].
    where: config key, for errors.

  Raises:
    UserError: there is no such principle, or none at all.
  """
  if not constitution:
    raise UserError("there are no principles to judge by.", where=where)
  for name in constitution:
    if name not in principles:
      raise UserError(
        f"there is no principle {name!r}.",
        where=where,
        remedy=nearest(name, principles),
      )
  if not 0 <= tremble <= 0.5:
    raise UserError(f"{tremble} is outside [0, 1/2].", where=f"{where}.tremble")
  counts = Tally()

  def preference(a: Answers, b: Answers) -> np.ndarray:
    count = len(a.texts)
    cast = [
      _votes(name, principles[name](a, b), count) for name in constitution
    ]
    found = decide(np.stack(cast, 1), [0.0] * len(cast))
    counts.add(
      {
        f"by {name}": int((found.level == i).sum())
        for i, name in enumerate(constitution)
      }
      | {"undecided": int((found.level < 0).sum())}
    )
    p = 0.5 + (0.5 - tremble) * found.verdict
    return np.where(found.level < 0, np.nan, p)

  return Judge(preference=preference, answers_all=False, counts=counts.counts)


def _votes(name: str, given: ArrayLike, count: int) -> np.ndarray:
  """Checks a principle's votes [N]."""
  votes = vector(given, count, f"principle {name!r}")
  bad = ~(np.isnan(votes) | np.isin(votes, (1, 0, -1)))
  if bad.any():
    raise UserError(
      f"voted {votes[bad][0]:g}.",
      where=f"principle {name!r}",
      remedy="A vote is 1 for the first response, -1 for the second, 0 for"
      " neither, or NaN.",
    )
  return votes
