"""Functions of one pair's scalars, mapped over a batch."""

import functools
import math

import numpy as np


def each_pair(function):
  """Maps a function of the scalars of a pair over a batch."""

  @functools.wraps(function)
  def over_batch(*arrays, **hyperparameters):
    return np.array(
      [function(*map(float, row), **hyperparameters) for row in zip(*arrays)]
    )

  return over_batch


def sigmoid(z):
  return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def log_sigmoid(z):
  if z < -600:  # z to the last digit, where exp(-z) would overflow
    return z
  return math.log(sigmoid(z)) if z < 30 else -math.log1p(math.exp(-z))
