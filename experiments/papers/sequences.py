"""All sequences of L tokens out of V, few enough to sum over.

A distribution over them is an array [V, ..., V]. Its token policy is a list of
L arrays; the t-th, [V] * (t + 1), is P(last token | tokens before it).
"""

from collections.abc import Callable, Sequence

import numpy as np


def normalized(logits: np.ndarray) -> np.ndarray:
  """softmax over the whole array, real or complex."""
  p = np.exp(logits - logits.real.max())
  return p / p.sum()


def complex_step(f: Callable, x: np.ndarray) -> np.ndarray:
  """The gradient of f at x; no difference is taken, so no digits are lost."""
  steps = 1e-30j * np.eye(x.size)
  return np.array([f(x + step).imag / 1e-30 for step in steps])


def kl(p: np.ndarray, q: np.ndarray) -> float:
  """KL(p || q) in nats; 0 log 0 is 0."""
  seen = p > 0
  return float(np.sum(p[seen] * (np.log(p[seen]) - np.log(q[seen]))))


def _prefixes(p: np.ndarray) -> list[np.ndarray]:
  """Probabilities of all prefixes, of lengths 0 to L."""
  return [p.sum(tuple(range(t, p.ndim))) for t in range(p.ndim + 1)]


def token_policy(p: np.ndarray) -> list[np.ndarray]:
  """The token policy of a distribution over sequences."""
  m = _prefixes(p)
  return [m[t + 1] / m[t][..., None] for t in range(p.ndim)]


def composed(tokens: Sequence[np.ndarray]) -> np.ndarray:
  """The distribution over sequences that a token policy makes."""
  p = np.ones(())
  for step in tokens:
    p = p[..., None] * step
  return p


def tilted(tokens: Sequence[np.ndarray], scores: Sequence[np.ndarray]):
  """The token policy proportional to `tokens * exp(scores)`."""
  steps = []
  for p, score in zip(tokens, scores):
    q = p * np.exp(score - score.max(-1, keepdims=True))
    steps.append(q / q.sum(-1, keepdims=True))
  return steps


def expected_later(p: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
  """Q of each prefix of length 1 to L: the mean value of its completions."""
  return [
    top / under for top, under in zip(_prefixes(p * values), _prefixes(p))
  ][1:]
