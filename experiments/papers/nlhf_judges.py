"""Judges of `nlhf_table`: exact raters, and rewards fitted to their verdicts.

  cycle  the TL;DR world's three groups of readers with weights 0.3, 0.4, 0.3;
         their mean preference is intransitive
  learned  models that `learned_judges` has trained on labels of the groups
         with equal weights, who then measure the policies
  gold   P(a > b) = sigmoid(2 (reward(a) - reward(b))), of the gold reward

A fitted reward is the Bradley-Terry model of a rater's exact probabilities on
pairs of the SFT policy's samples. It is linear in features of attributes, most
of them indicators, so that it fits the gold rater without error, and the
intransitive readers as well as any score that adds up features.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jalign.data import tldr_world as world
from jalign.data.tldr_world.language import Post
from jalign.data.tldr_world.raters import Rater
from jalign.data.tldr_world.summary import Attributes
from jalign.experiment import scorer as scorers
from jalign.experiment.judges.model import from_scorer
from jalign.feedback import Judge, from_batch, from_rewards

WEIGHTS = (0.3, 0.4, 0.3)
RATERS: dict[str, Rater] = {
  "cycle": world.mixture(tuple(world.GROUPS.values()), WEIGHTS),
  "gold": world.gold_rater,
  # Measures policies that learn from models of these readers' labels.
  "learned": world.population_rater,
}
PRIOR = 1e-6  # weight of half the squared parameters, per pair
LENGTHS = np.array([0, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20])


def features(of: Attributes) -> np.ndarray:
  """[N, F] features of N summaries: the attributes, and their indicators."""
  levels = lambda x, at: (np.round(x[:, None], 6) >= at).astype(np.float64)
  return np.concatenate(
    [
      np.stack(of[:6], 1),
      of.sourced[:, None],
      levels(of.coverage, np.round([1 / 3, 1 / 2, 2 / 3, 1], 6)),
      levels(of.hallucinations, np.arange(1, 5)),
      levels(of.redundant, np.arange(1, 4)),
      levels(of.filler, np.arange(1, 3)),
      levels(of.sourced, np.array([1e-3, 0.5, 1])),
      levels(of.words, LENGTHS),
    ],
    1,
  )


class Fitted(NamedTuple):
  """A fitted reward.

  Attributes:
    weights: [F] weights of the features.
    nll: mean cross-entropy of the rater's probabilities, nats.
    floor: mean entropy of these probabilities, which no model is below, nats.
    error: largest error of a pair's probability.
  """

  weights: np.ndarray
  nll: float
  floor: float
  error: float

  def reward(self, of: Attributes) -> np.ndarray:
    """[N] rewards of N summaries, up to a constant."""
    return features(of) @ self.weights

  def rater(self, a: Attributes, b: Attributes) -> np.ndarray:
    """The reward's P(a > b), of summaries [N]."""
    return _sigmoid(self.reward(a) - self.reward(b))


def fit(rater: Rater, a: Attributes, b: Attributes, steps: int = 60) -> Fitted:
  """Fits a reward to a rater's exact probabilities on N pairs, by Newton steps.

  Args:
    rater: gives P(a > b).
    a: attributes [N] of the first summaries.
    b: attributes [N] of the second summaries.
    steps: number of steps.
  """
  x, p = features(a) - features(b), rater(a, b)
  weights = np.zeros(x.shape[1])
  for _ in range(steps):
    q = _sigmoid(x @ weights)
    slope = x.T @ (q - p) / len(p) + PRIOR * weights
    curve = (x.T * (q * (1 - q))) @ x / len(p) + PRIOR * np.eye(len(weights))
    weights = weights - np.linalg.solve(curve, slope)
  q = _sigmoid(x @ weights)
  cross = lambda q: -np.mean(p * np.log(q) + (1 - p) * np.log1p(-q))
  return Fitted(
    weights, float(cross(q)), float(cross(p)), float(np.abs(p - q).max())
  )


def of_preference(rater: Rater) -> Judge:
  """The judge that gives a rater's probabilities."""
  return from_batch(world.annotator(rater))


def of_reward(reward: Callable[[Attributes], np.ndarray]) -> Judge:
  """The judge that gives a reward of attributes."""

  def rewards(posts: Sequence[str], texts: Sequence[str], rows) -> np.ndarray:
    del rows
    return reward(world.attributes(posts, texts))

  return from_rewards(rewards)


def of_model(folder: pathlib.Path) -> Judge:
  """The judge that a reward or preference model of a run is."""
  gives = scorers.gives_at(folder)
  return from_scorer(lambda: scorers.load_scorer(str(folder)), gives)


def of_texts(
  posts: Sequence[Post], texts: Sequence[Sequence[str]]
) -> np.ndarray:
  """[G, K, 8] attributes of K texts for each of G posts."""
  flat = [(p.text, text) for p, own in zip(posts, texts) for text in own]
  of = np.stack(world.attributes(*zip(*flat)), 1)
  return of.reshape(len(posts), -1, of.shape[1])


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * x))
