"""Functions of one list's valid responses, mapped over a batch."""

import functools

import numpy as np


def each_list(function):
  """Maps a function of one list's valid responses over a batch.

  The last array says which responses are valid; the function gets only those.
  If it gives one number per response, each is put back in its place.
  """

  @functools.wraps(function)
  def over_batch(*arrays, **hyperparameters):
    *arrays, valid = map(np.asarray, arrays)
    results = []
    for b, mask in enumerate(valid):
      lists = [[float(x) for x in array[b][mask]] for array in arrays]
      result = function(*lists, **hyperparameters)
      if np.ndim(result):
        row = np.zeros(len(mask))
        row[mask] = result
        result = row
      results.append(result)
    return np.array(results, np.float64)

  return over_batch


def softmax(x):
  e = np.exp(np.asarray(x) - max(x, default=0.0))
  return e / e.sum()


def best_first(scores):
  """Indices by falling score; equal scores are in the list's order."""
  return sorted(range(len(scores)), key=lambda i: -scores[i])


def ordered_pairs(scores):
  """(better, worse) of each pair that the scores order."""
  indices = range(len(scores))
  return [(i, j) for i in indices for j in indices if scores[i] > scores[j]]
