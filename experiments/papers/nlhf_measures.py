"""What `nlhf_table` measures: win rates, exploitability, values at equal KL.

There are G held-out posts and K samples of a policy to each. Raters see only
attributes, so a sample is stored as the number of its type: a row of attributes
in a table of types. All probabilities are exact.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jalign.data import tldr_world as world
from jalign.data.tldr_world.raters import Rater
from jalign.data.tldr_world.summary import Attributes


class Types(NamedTuple):
  """Types of summaries, and how a rater compares them.

  Attributes:
    attributes: [T] attributes of T types, each once.
    wins: [T, T] P(row is preferred to column).
  """

  attributes: Attributes
  wins: np.ndarray

  def find(self, rows: np.ndarray) -> np.ndarray:
    """[...] numbers of the types of attributes [..., 8], all in the table."""
    table = {row.tobytes(): i for i, row in enumerate(rows_of(self.attributes))}
    flat = np.round(rows, 6).reshape(-1, rows.shape[-1]) + 0.0
    at = [table[row.tobytes()] for row in flat]
    return np.array(at, np.int64).reshape(rows.shape[:-1])


def rows_of(of: Attributes) -> np.ndarray:
  """[..., 8] the attributes as an array, rounded to what tells types apart."""
  return np.ascontiguousarray(np.round(np.stack(of, -1), 6) + 0.0)


def types_of(rater: Rater, parts: Sequence[np.ndarray]) -> Types:
  """The types among some arrays of attributes [..., 8], and a rater's view."""
  flat = [np.round(x, 6).reshape(-1, x.shape[-1]) + 0.0 for x in parts]
  table = Attributes(*np.unique(np.concatenate(flat), axis=0).T)
  first = Attributes(*(x[:, None] for x in table))
  second = Attributes(*(x[None] for x in table))
  return Types(table, np.asarray(rater(first, second), np.float64))


def wins_by_post(wins: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """[G] mean P(a's sample > b's sample) over all pairs of samples.

  Args:
    wins: [T, T] P(row is preferred to column).
    a: [G, K] types of a policy's samples.
    b: [G, M] types of another policy's samples.
  """
  return wins[a[:, :, None], b[:, None, :]].mean((1, 2))


class Estimate(NamedTuple):
  """A mean over posts and its standard error."""

  mean: float
  error: float


def mean_of(by_post: np.ndarray) -> Estimate:
  """The mean of [G] values and its standard error over posts."""
  spread = by_post.std(ddof=1) / np.sqrt(len(by_post))
  return Estimate(float(by_post.mean()), float(spread))


class Exploited(NamedTuple):
  """A lower bound on a policy's exploitability.

  Attributes:
    by_post: [G] win rates of the best challenger over the policy, less one
      half.
    challenger: name of the challenger; of both, where the halves of the posts
      chose different ones.
  """

  by_post: np.ndarray
  challenger: str


def exploited(challengers: Mapping[str, np.ndarray]) -> Exploited:
  """The best challenger, chosen on one half of the posts, judged on the other.

  So a choice among many challengers adds nothing to the result.

  Args:
    challengers: name -> [G] win rates over the policy, by post. A challenger
      that is itself chosen by post, as `best_types` is, has been chosen on the
      other half.
  """
  names = list(challengers)
  table = np.stack([challengers[name] for name in names])
  halves = np.arange(table.shape[1]) % 2 == 0
  values, best = np.zeros(table.shape[1]), []
  for chosen_on in (halves, ~halves):
    at = int(table[:, chosen_on].mean(1).argmax())
    values[~chosen_on] = table[at, ~chosen_on]
    best.append(names[at])
  return Exploited(values - 0.5, " / ".join(dict.fromkeys(best)))


def best_types(
  types: Types, salient: np.ndarray, samples: np.ndarray
) -> np.ndarray:
  """[G] win rates of the best type of summary for posts with n salient facts.

  The type is any that a grammatical summary has. For each n the best is chosen
  on the other half of the posts.

  Args:
    types: the table, with all attainable types.
    salient: [G] number of salient facts of each post.
    samples: [G, K] types of the policy's samples.
  """
  values = np.zeros(len(salient))
  halves = np.arange(len(salient)) % 2 == 0
  for n in np.unique(salient):
    every = types.find(rows_of(world.attainable(int(n))))
    for chosen_on in (halves, ~halves):
      here = chosen_on & (salient == n)
      there = ~chosen_on & (salient == n)
      score = types.wins[np.ix_(every, samples[here].ravel())].mean(1)
      best = every[score.argmax()]
      values[there] = types.wins[best][samples[there]].mean(1)
  return values


def own_best(
  types: Types, salient: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Bounds on the win rate of the best summary of each post, [G] each.

  The first is that of a summary that was chosen on the other half of the
  policy's samples, a lower bound in expectation; the second of one that was
  chosen on all samples, an upper bound.
  """
  low, high = np.zeros(len(salient)), np.zeros(len(salient))
  for n in np.unique(salient):
    every = types.find(rows_of(world.attainable(int(n))))
    for g in np.flatnonzero(salient == n):
      p = types.wins[np.ix_(every, samples[g])]
      halves = p[:, ::2].mean(1), p[:, 1::2].mean(1)
      low[g] = (
        halves[1][halves[0].argmax()] + halves[0][halves[1].argmax()]
      ) / 2
      high[g] = p.mean(1).max()
  return low, high


class Gap(NamedTuple):
  """The mean difference of two frontiers over the KLs that both reach.

  Attributes:
    mean: ours less theirs.
    error: its standard error over posts, for the policies that there are.
    low: lowest KL that both reach.
    high: highest KL that both reach.
  """

  mean: float
  error: float
  low: float
  high: float


def gap_at_kl(
  ours: tuple[Sequence[float], np.ndarray],
  theirs: tuple[Sequence[float], np.ndarray],
  points: int = 101,
  most: float = np.inf,
) -> Gap | None:
  """Compares two frontiers at equal KL, on straight lines between policies.

  Args:
    ours: KLs of N policies, and their values [N, G] by post.
    theirs: KLs of M policies, and their values [M, G] on the same posts.
    points: number of KLs that are compared, evenly spaced.
    most: the highest KL that is compared.

  Returns:
    The gap; None where the frontiers have no range of KLs in common.
  """
  low = max(min(ours[0]), min(theirs[0]))
  high = min(max(ours[0]), max(theirs[0]), most)
  if not low < high:
    return None
  where = np.linspace(low, high, points)

  def by_post(kl: Sequence[float], values: np.ndarray) -> np.ndarray:
    order = np.argsort(kl)
    parts = np.eye(len(order))
    x = np.asarray(kl, float)[order]
    shares = np.stack([np.interp(where, x, part) for part in parts], 1)
    return shares.mean(0) @ np.asarray(values)[order]

  mean, error = mean_of(by_post(*ours) - by_post(*theirs))
  return Gap(mean, error, low, high)
