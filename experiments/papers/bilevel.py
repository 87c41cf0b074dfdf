"""PARL's two levels, small enough to sum: a reward, and the policy it makes.

Chakraborty et al. 2023, "PARL: A Unified Framework for Policy Alignment in
Reinforcement Learning from Human Feedback", arXiv:2308.02585.
"""

import numpy as np

from experiments.papers.sequences import normalized


class Bilevel:
  """PARL's two levels: rewards nu @ features, and preferences of a judge.

  The lower level is the optimum of reward nu with KL coefficient beta; the
  upper one the likelihood of the judge's answers on pairs drawn from it.
  """

  def __init__(self, beta: float, seed: int = 5):
    self.beta = beta
    rng = np.random.default_rng(seed)
    self.base = normalized(rng.normal(size=27))
    self.features = rng.normal(size=(3, 27))
    # The judge sees more than the features, so that no nu is the truth.
    truth = rng.normal(size=3) @ self.features + 0.5 * rng.normal(size=27)
    self.wins = 1 / (1 + np.exp(truth[None] - truth[:, None]))
    self.utility = truth

  def policy(self, nu: np.ndarray) -> np.ndarray:
    """[27], the lower level's answer."""
    return normalized(np.log(self.base) + nu @ self.features / self.beta)

  def likelihoods(self, nu: np.ndarray) -> np.ndarray:
    """[27, 27] of the answers about each pair, in nats."""
    r = nu @ self.features
    log_sigmoid = -np.log1p(np.exp(r[None] - r[:, None]))
    return self.wins * log_sigmoid + self.wins.T * log_sigmoid.T

  def value(self, nu: np.ndarray):
    """The upper level's objective."""
    p = self.policy(nu)
    return p @ self.likelihoods(nu) @ p

  def gradient(self, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[3] with the pairs' law held fixed, and [3] of that law."""
    p, r = self.policy(nu), nu @ self.features
    wrong = self.wins - 1 / (1 + np.exp(r[None] - r[:, None]))
    held = 2 * self.features @ (p * (wrong @ p))
    mean = self.likelihoods(nu) @ p
    return held, 2 / self.beta * self.covariance(p, mean)

  def covariance(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """[3] of u with the reward's gradient, under p."""
    return self.features @ (p * (u - p @ u))

  def climb(self, whole: bool) -> np.ndarray:
    """[T, 3] by gradient ascent, with or without the pairs' law's part."""
    nu, path = np.zeros(3), []
    for _ in range(400):
      path.append(nu)
      held, moved = self.gradient(nu)
      nu = nu + 0.2 * (held + moved if whole else held)
    return np.array(path)
