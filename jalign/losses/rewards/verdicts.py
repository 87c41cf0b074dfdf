"""What verdicts of a generative reward model are worth, and Elo ratings."""

import math

import jax
import jax.numpy as jnp

from jalign.losses._arrays import equal_floats
from jalign.types import Array

ELO_PER_NAT = 400 / math.log(10)  # 173.7178


def verdict_probability(first_logps: Array, second_logps: Array) -> Array:
  """P(first is better) by the two verdict tokens: p(A) / (p(A) + p(B)).

  Its logit is the difference of the log-probs, which `pairwise_preference` and
  `pairwise_preference_averaged` train as a logit, in both orders.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886 (a
  verdict's probability as preference; the normalisation over two tokens is
  usual for judges).

  Args:
    first_logps: [...] log-probs (nats) of the verdict for the first response.
    second_logps: [...] the same for the second response.

  Returns:
    [...] probabilities.

  Raises:
    AssertionError: shapes differ.
  """
  first, second = equal_floats(first_logps, second_logps)
  return jax.nn.sigmoid(first - second)


def verdict_rewards(verdicts: Array, labels: Array) -> Array:
  """Rewards that train a judge by RL: +1 for the label's verdict, -1 otherwise.

  A verdict that is missing or malformed earns -1 as well: give it a number that
  isn't a label. Among K verdicts on a pair, of which a share p is right,
  advantages of GRPO are sqrt((1 - p) / p) and -sqrt(p / (1 - p)), both times
  sqrt((K - 1) / K) in `group_advantages`. Show each sample the two responses in
  a random order, or the judge learns a place.

  Chen et al. 2025, "RM-R1: Reward Modeling as Reasoning", arXiv:2505.02387 (the
  reward; its KL and group size aren't part of this).

  Args:
    verdicts: [..., K] or [...] integers, which response a verdict is for; -1
      for no verdict.
    labels: integers that broadcast to the verdicts' shape.

  Returns:
    float32 rewards in the shape of the verdicts.
  """
  right = (verdicts == labels) & (verdicts >= 0)
  return jnp.where(right, 1.0, -1.0)


def elo(gap: Array) -> Array:
  """The difference of Elo ratings that a difference of scores means.

  P(a > b) = sigmoid(s_a - s_b) = 1 / (1 + 10^(-elo / 400)), so that a nat is
  400 / ln 10 = 173.7 points.

  Bai et al. 2022, "Training a Helpful and Harmless Assistant with Reinforcement
  Learning from Human Feedback", arXiv:2204.05862.

  Args:
    gap: differences of Bradley-Terry scores (nats), of any shape.
  """
  return ELO_PER_NAT * gap
