"""Small preference games with names, most of them intransitive."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jalign.errors import UserError


class Example(NamedTuple):
  """A preference game with a reference.

  Attributes:
    preferences: [n, n] float64 P(row is preferred to column).
    reference: [n] float64 probabilities, all positive.
    actions: names of the n actions.
  """

  preferences: np.ndarray
  reference: np.ndarray
  actions: tuple[str, ...]


def _example(preferences, reference=None, actions=None) -> Example:
  p = np.asarray(preferences, np.float64)
  n = len(p)
  uniform = np.full(n, 1 / n)
  return Example(
    p,
    uniform if reference is None else np.asarray(reference, np.float64),
    tuple(actions or (f"y{i + 1}" for i in range(n))),
  )


def margins_cycle(
  a12: float, a23: float, a31: float, reference: Sequence[float] | None = None
) -> Example:
  """Three actions in a cycle, in which each action beats the next by a margin.

  P(y1 > y2) = 1/2 + a12, P(y2 > y3) = 1/2 + a23, P(y3 > y1) = 1/2 + a31. In the
  plain Nash equilibrium the probability of an action is proportional to the
  margin between the two other actions: (a23, a31, a12).

  Args:
    a12: margin of y1 over y2, in (0, 1/2].
    a23: margin of y2 over y3, in (0, 1/2].
    a31: margin of y3 over y1, in (0, 1/2].
    reference: [3] probabilities, uniform by default.

  Raises:
    UserError: a margin is out of range.
  """
  if not all(0 < a <= 0.5 for a in (a12, a23, a31)):
    raise UserError(f"{(a12, a23, a31)} must lie in (0, 0.5].", where="margins")
  skew = np.array([[0, a12, -a31], [-a12, 0, a23], [a31, -a23, 0]])
  return _example(0.5 + skew, reference)


def golden() -> Example:
  """The cycle with margins 0.4, 0.3, 0.3 and reference (0.5, 0.3, 0.2).

  The plain Nash equilibrium is (0.3, 0.3, 0.4). The rewards of the best
  Bradley-Terry fit are (0.13, -0.13, 0), which show nothing of the cycle.
  """
  return margins_cycle(0.4, 0.3, 0.3, (0.5, 0.3, 0.2))


def rock_paper_scissors(margin: float = 0.5) -> Example:
  """The symmetric cycle, with a uniform reference.

  The equilibrium is uniform for every tau.
  """
  return margins_cycle(margin, margin, margin)


def dice(*faces: Sequence[float]) -> Example:
  """P(a > b) = P(die a shows more than die b), with ties counted half.

  The default is three dice, each of which beats the next of a cycle with
  probability 5/9 (Munos et al. 2023, arXiv:2312.00886, appendix C).

  Args:
    *faces: for each die, the numbers on its faces.
  """
  faces = faces or ((2, 4, 9), (1, 6, 8), (3, 5, 7))
  wins = lambda a, b: np.mean(
    [(x > y) + (x == y) / 2 for x, y in itertools.product(a, b)]
  )
  names = ["{" + ", ".join(f"{x:g}" for x in f) + "}" for f in faces]
  return _example([[wins(a, b) for b in faces] for a in faces], actions=names)


def rater_types(epsilon: float = 0.0) -> Example:
  """Preferences of a mixture of three types of raters with different orders.

  P(y2 > y1) = 2/3 - eps/2, P(y1 > y3) = P(y3 > y2) = 2/3 + eps/4, where eps is
  epsilon. The plain Nash equilibrium (1/3 + eps/2, 1/3 + eps/2, 1/3 - eps)
  moves smoothly with eps, whereas the best action of a Bradley-Terry fit jumps.

  Munos et al. 2023, arXiv:2312.00886, section 3.2.

  Args:
    epsilon: in [-2/3, 1/3]; the share of raters of type 1 is 1/3 - epsilon.

  Raises:
    UserError: epsilon is out of range.
  """
  if not -2 / 3 <= epsilon <= 1 / 3:
    raise UserError(f"{epsilon} must lie in [-2/3, 1/3].", where="epsilon")
  p = np.full((3, 3), 0.5)
  p[1, 0] = 2 / 3 - epsilon / 2
  p[0, 2] = p[2, 1] = 2 / 3 + epsilon / 4
  p[0, 1], p[2, 0], p[1, 2] = 1 - p[1, 0], 1 - p[0, 2], 1 - p[2, 1]
  return _example(p)


def elo(ratings: Sequence[float] | None = None) -> Example:
  """A transitive game, P(i > j) = sigmoid(r_i - r_j).

  With the default ratings (0, log 9, log 2), among the policies with
  pi(y1) = 2 pi(y2) the one of highest reward isn't the one of highest win rate
  (Munos et al. 2023, arXiv:2312.00886, appendix A).

  Args:
    ratings: [n] r, natural-log odds.
  """
  r = np.asarray([0, np.log(9), np.log(2)] if ratings is None else ratings)
  return _example(1 / (1 + np.exp(r[None, :] - r[:, None])))


def random_game(n: int, seed: int = 0, *, scale: float = 0.5) -> Example:
  """Independent P(i > j), uniform in 1/2 +- scale, and a random reference.

  Args:
    n: number of actions.
    seed: seed of the draw.
    scale: largest margin, in (0, 1/2].

  Raises:
    UserError: n or scale is out of range.
  """
  if n < 1 or not 0 < scale <= 0.5:
    raise UserError(
      f"n = {n} must be >= 1, scale = {scale} in (0, 0.5].", where="random_game"
    )
  rng = np.random.default_rng(seed)
  upper = np.triu(rng.uniform(-scale, scale, (n, n)), 1)
  logits = rng.standard_normal(n)
  reference = np.exp(logits - logits.max())
  return _example(0.5 + upper - upper.T, reference / reference.sum())


def egpo_benchmark(seed: int = 0) -> Example:
  """A draw of EGPO's tabular benchmark, with 10 actions.

  P is uniform in (0, 1) on one side of the diagonal, and the reference's logits
  are N(0, 1).

  Zhou, Fazel, Du 2025, arXiv:2503.08942, section 5.
  """
  return random_game(10, seed)


EXAMPLES = {
  "golden": golden,
  "rock_paper_scissors": rock_paper_scissors,
  "dice": dice,
  "rater_types": rater_types,
  "elo": elo,
  "random": lambda: random_game(32),
  "egpo": egpo_benchmark,
}
