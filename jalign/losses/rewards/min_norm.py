"""The shortest convex combination of vectors, such as gradients of objectives.

Its inner product with each of the vectors is at least its squared norm, so that
a small step against the combination lowers the loss of every objective, unless
the combination is 0: then no step lowers all losses.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import as_floats
from jalign.types import Array

_MOST_STEPS = 500  # of Frank-Wolfe, which mostly needs fewer than 50


def min_norm_of_two(first: Array, second: Array) -> Array:
  """The weight of `first` in the shortest convex combination of two vectors.

  w = clip((g_2 - g_1) . g_2 / |g_1 - g_2|^2, 0, 1); 1/2 for equal vectors.

  Args:
    first: [..., D] g_1.
    second: [..., D] g_2.

  Returns:
    [...] weights in [0, 1]; the weight of `second` is the rest.
  """
  apart = second - first
  square = jnp.sum(jnp.square(apart), -1)
  weight = jnp.sum(apart * second, -1) / jnp.where(square > 0, square, 1.0)
  return jnp.where(square > 0, jnp.clip(weight, 0, 1), 0.5)


def min_norm_weights(gram: Array, present: Array) -> Array:
  """Weights of the shortest convex combination of M vectors.

  Frank-Wolfe's algorithm with exact steps, in its pairwise form: weight moves
  from the worst vector that has any to the best vector, which converges
  linearly. Two vectors take a single step.

  Args:
    gram: [M, M] inner products of the vectors.
    present: [M] bool, which vectors there are; at least one.

  Returns:
    [M] weights >= 0 with sum 1; 0 for vectors that aren't present.
  """
  (gram,), present = as_floats(gram), jnp.asarray(present, bool)
  start = present.astype(gram.dtype)
  start = start / jnp.maximum(jnp.sum(start), 1)
  index = jnp.arange(gram.shape[0])
  scale = jnp.max(jnp.where(present, jnp.diagonal(gram), 0.0))
  least = 4 * jnp.finfo(gram.dtype).eps * scale

  def ends(weights):
    slope = jnp.sum(gram * weights, -1)
    best = jnp.argmin(jnp.where(present, slope, jnp.inf))
    worst = jnp.argmax(jnp.where(weights > 0, slope, -jnp.inf))
    return best, worst, slope[worst] - slope[best]

  def go_on(state):
    step, _, (_, _, gap) = state
    return (step < _MOST_STEPS) & (gap > least)

  def move(state):
    step, weights, (best, worst, gap) = state
    bend = gram[best, best] - 2 * gram[best, worst] + gram[worst, worst]
    most = weights[worst]
    amount = jnp.where(bend > 0, gap / jnp.where(bend > 0, bend, 1.0), most)
    amount = jnp.minimum(amount, most)
    towards = jnp.where(index == best, 1.0, 0.0).astype(gram.dtype)
    weights = weights + amount * towards
    weights = jnp.where(index == worst, most - amount, weights)
    return step + 1, weights, ends(weights)

  return jax.lax.while_loop(go_on, move, (0, start, ends(start)))[1]
