"""Transformations of rewards, to apply before the rewards are maximised."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, equal_floats
from jalign.losses.advantages import whiten
from jalign.types import Array

__all__ = ["all_good", "clip", "log_sigmoid_centered", "whiten"]


def log_sigmoid_centered(rewards: Array, reference: Array | float) -> Array:
  """log sigmoid(r - r_ref): the log-probability that a response is good.

  The function is flat for responses that are good already, so that in a sum the
  worst of several rewards counts most. The optimum of KL-regularised RL with
  this reward and beta = 1 is the reference's posterior given "good".

  Wang et al. 2024, "Transforming and Combining Rewards for Aligning Large
  Language Models", arXiv:2402.00742. The paper takes r_ref from the rewards of
  the reference's own responses to the prompt, for instance a quantile.

  Args:
    rewards: rewards of any shape.
    reference: r_ref, a number or an array that broadcasts to `rewards`.

  Returns:
    Rewards of the same shape, at most 0.
  """
  (rewards,) = equal_floats(rewards)
  return jax.nn.log_sigmoid(rewards - jnp.asarray(reference, rewards.dtype))


def all_good(rewards: Array, reference: Array | float) -> Array:
  """log P(good in every respect): the sum of `log_sigmoid_centered`.

  Wang et al. 2024, arXiv:2402.00742. This is a logical AND of rewards; in a
  plain sum a very good reward makes up for a bad one.

  Args:
    rewards: [..., M] rewards of M reward models.
    reference: r_ref, a number or an array that broadcasts to `rewards`.

  Returns:
    [...] rewards, at most 0.
  """
  return log_sigmoid_centered(rewards, reference).sum(-1)


def clip(rewards: Array, *, limit: float = 10.0) -> Array:
  """Clips rewards to [-limit, limit].

  Zheng et al. 2023, "Secrets of RLHF in Large Language Models Part I: PPO",
  arXiv:2307.04964, clip normalised rewards at 10; ReMax's code clips at 5.

  Args:
    rewards: rewards of any shape.
    limit: largest absolute value, > 0.

  Raises:
    UserError: the limit is not positive.
  """
  check_range("limit", limit, 0)
  return jnp.clip(rewards, -limit, limit)
