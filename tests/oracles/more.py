"""float64 twin of MORE: its weights come from all faces of the simplex."""

import itertools
import math

import numpy as np

from tests.oracles.pairwise.scalars import log_sigmoid


def min_norm(vectors):
  """Weights of the shortest convex combination: the best point of any face."""
  best, shortest = None, math.inf
  for size in range(1, len(vectors) + 1):
    for face in itertools.combinations(range(len(vectors)), size):
      some = np.stack([vectors[i] for i in face])
      # Stationary where the weights sum to 1: [[G, 1], [1, 0]] (w, mu) = (0, 1)
      system = np.ones((size + 1, size + 1))
      system[:size, :size], system[size, size] = some @ some.T, 0
      w = np.linalg.lstsq(system, np.eye(size + 1)[size], rcond=None)[0][:size]
      if (w >= -1e-12).all() and np.linalg.norm(w @ some) < shortest - 1e-15:
        shortest = np.linalg.norm(w @ some)
        best = np.zeros(len(vectors))
        best[list(face)] = w
  return best


def _parts(chosen, rejected, gaps, preference, valid, divide):
  """Losses and slopes of pairs in objectives, and what each weighs."""
  count, objectives = preference.shape
  valid = valid > 0
  terms, slopes = np.zeros((2, count, objectives))
  for b, m in np.argwhere(valid):
    d, p = chosen[b] - rejected[b], preference[b, m]
    terms[b, m] = -p * log_sigmoid(d) - (1 - p) * log_sigmoid(-d)
    slopes[b, m] = math.exp(log_sigmoid(d)) - p
  there = [m for m in range(objectives) if valid[:, m].any()]
  vectors = []
  for m in there:
    labelled = np.flatnonzero(valid[:, m])
    g = np.mean([slopes[b, m] * gaps[b] for b in labelled], axis=0)
    loss = np.mean([terms[b, m] for b in labelled])
    vectors.append(g / divide(np.linalg.norm(g), loss))
  each = np.zeros(objectives)
  rows = valid.any(1).sum()
  for m, weight in zip(there, min_norm(vectors)):
    each[m] = weight * rows / valid[:, m].sum()
  return terms, slopes, each


def forms(divide):
  """The loss and its gradient in the chosen scores."""

  def loss(*arrays):
    terms, _, each = _parts(*arrays, divide)
    return terms @ each

  def gradient(*arrays):
    _, slopes, each = _parts(*arrays, divide)
    return slopes @ each

  return loss, gradient
