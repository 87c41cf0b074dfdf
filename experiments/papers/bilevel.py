"""PARL's two levels, small enough to enumerate: a reward, and its policy.

Chakraborty et al. 2023, "PARL: A Unified Framework for Policy Alignment in
Reinforcement Learning from Human Feedback", arXiv:2308.02585.
"""

import numpy as np

from experiments.papers.sequences import normalized


class Bilevel:
  """PARL's two levels: rewards nu @ features, and a judge's preferences.

  The lower level is the optimal policy for the reward, with KL coefficient
  beta. The upper level is the likelihood of the judge's answers on pairs drawn
  from that policy.
  """

  def __init__(self, beta: float, seed: int = 5):
    self.beta = beta
    rng = np.random.default_rng(seed)
    self.base = normalized(rng.normal(size=27))
    self.features = rng.normal(size=(3, 27))
    # The judge sees more than the features, so that no nu is exactly right.
    truth = rng.normal(size=3) @ self.features + 0.5 * rng.normal(size=27)
    self.wins = 1 / (1 + np.exp(truth[None] - truth[:, None]))
    self.utility = truth

  def policy(self, nu: np.ndarray) -> np.ndarray:
    """[27] the optimal policy for a reward: the lower level's answer."""
    return normalized(np.log(self.base) + nu @ self.features / self.beta)

  def likelihoods(self, nu: np.ndarray) -> np.ndarray:
    """[27, 27] log-likelihoods of the judge's answers about each pair, nats."""
    r = nu @ self.features
    log_sigmoid = -np.log1p(np.exp(r[None] - r[:, None]))
    return self.wins * log_sigmoid + self.wins.T * log_sigmoid.T

  def value(self, nu: np.ndarray):
    """The upper level's objective, nats."""
    p = self.policy(nu)
    return p @ self.likelihoods(nu) @ p

  def gradient(self, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two parts [3] of the gradient: with the law of the pairs held fixed, and
    by that law."""
    p, r = self.policy(nu), nu @ self.features
    wrong = self.wins - 1 / (1 + np.exp(r[None] - r[:, None]))
    held = 2 * self.features @ (p * (wrong @ p))
    mean = self.likelihoods(nu) @ p
    return held, 2 / self.beta * self.covariance(p, mean)

  def covariance(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """[3] covariances of u with the reward's gradient, under p."""
    return self.features @ (p * (u - p @ u))

  def climb(self, whole: bool) -> np.ndarray:
    """[T, 3] path of gradient ascent, with or without the law's part."""
    nu, path = np.zeros(3), []
    for _ in range(400):
      path.append(nu)
      held, moved = self.gradient(nu)
      nu = nu + 0.2 * (held + moved if whole else held)
    return np.array(path)
