"""Numbers that follow a run: reward statistics, and a coefficient of the KL."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jalign.types import Array


class Moments(NamedTuple):
  """Count, mean and variance of all numbers so far; [] float32 each.

  Attributes:
    number: how many numbers there are.
    mean: their mean; 0 without numbers.
    variance: their variance, divided by the count; 0 without numbers.
  """

  number: Array | float = 0.0
  mean: Array | float = 0.0
  variance: Array | float = 0.0


def moments(x: Array | np.ndarray, counted: Array | np.ndarray) -> Moments:
  """The moments of some numbers.

  Args:
    x: an array of any shape.
    counted: bool, of the same shape: which of the numbers count.
  """
  count = jnp.sum(counted).astype(jnp.float32)
  of = lambda y: jnp.sum(jnp.where(counted, y, 0.0)) / jnp.maximum(count, 1)
  mean = of(x)
  return Moments(count, mean, of((x - mean) ** 2))


def merged(a: Moments, b: Moments) -> Moments:
  """The moments of two sets of numbers together.

  Chan, Golub and LeVeque 1979: the sums of squares add up, and so does the
  square of the difference of the means.
  """
  count = a.number + b.number
  share = b.number / jnp.maximum(count, 1)
  apart = b.mean - a.mean
  return Moments(
    count,
    a.mean + share * apart,
    (1 - share) * a.variance
    + share * b.variance
    + share * (1 - share) * apart**2,
  )


def adapted(
  coefficient: Array | float,
  kl: Array | float,
  count: Array | float,
  *,
  target: float,
  horizon: float,
) -> Array:
  """The coefficient of a KL penalty after a round.

  c (1 + clip(kl / target - 1, -0.2, 0.2) count / horizon)

  Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences",
  arXiv:1909.08593, section 2.2.

  Args:
    coefficient: c, the coefficient of the round.
    kl: the round's KL to the reference, nats a response.
    count: number of responses of the round.
    target: the KL to reach, nats, > 0.
    horizon: responses over which the coefficient follows, > 0.
  """
  error = jnp.clip(kl / target - 1, -0.2, 0.2)
  return coefficient * (1 + error * count / horizon)
