"""Rewards less a KL penalty, and the settings that rows on rewards share.

There are P prompts and K responses to each. The penalty of a response is beta
times its log-ratio, log(policy / reference), of which the mean over the
policy's samples is the KL. As a part of the reward it belongs to what the
policy gradient estimates; a token is charged for the log-ratios from itself on.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses.advantages import reward_to_go, token_rewards
from jalign.online.arrange import Judged
from jalign.sharding import fetch
from jalign.types import Array


def check_number(
  name: str, value: float, low: float, *, least: bool = False
) -> None:
  """Raises UserError unless a setting is finite and above a bound.

  Args:
    name: name of the setting.
    value: its value.
    low: the bound.
    least: whether the bound itself is allowed.
  """
  fits = value >= low if least else value > low
  if not (fits and math.isfinite(value)):
    sign = ">=" if least else ">"
    raise UserError(f"{value!r} must be {sign} {low:g} and finite.", where=name)


def check_samples(count: int, least: int, why: str, even: bool = False) -> None:
  """Raises UserError where there are too few responses to a prompt.

  Args:
    count: number of responses.
    least: least number that can be used.
    why: what they are used for, for the error.
    even: whether the number must be even.
  """
  if count < least or (even and count % 2):
    kind = f"an even number of at least {least}" if even else f"{least} or more"
    raise UserError(
      f"{count} responses to a prompt can't be used: {why}.",
      where="samples",
      remedy=f"Choose {kind}.",
    )


def log_ratios(judged: Judged) -> np.ndarray:
  """[P, K] float64 log(policy / reference) (nats) of the responses."""
  ratios = jnp.sum(judged.old_token_logps - judged.ref_token_logps, -1)
  rows = fetch(ratios).astype(np.float64)
  return rows.reshape(len(judged.weights), -1)


def penalised(judged: Judged, beta: float) -> np.ndarray:
  """[P, K] float64 rewards less beta times the log-ratios.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: weight of the KL to the reference, >= 0.

  Raises:
    UserError: beta is out of range.
  """
  check_number("beta", beta, 0, least=True)
  assert judged.rewards is not None  # the row needs rewards
  return judged.rewards - beta * log_ratios(judged)


def mean_of(judged: Judged, values: np.ndarray) -> float:
  """Mean of [P, K] values over the prompts that count; 0 where none does."""
  live = judged.weights > 0
  return float(values[live].mean()) if live.any() else 0.0


def by_row(judged: Judged, rows: int) -> np.ndarray:
  """[P * rows] weights of prompts, for `rows` examples of each prompt."""
  return np.repeat(judged.weights, rows)


@functools.partial(jax.jit, static_argnames="beta")
def returns_of_rewards(
  logps: Array, ref_logps: Array, rewards: Array, mask: Array, beta: float
) -> Array:
  """[B, T] what follows each token: the reward less beta log-ratios.

  Args:
    logps: [B, T] log-probs of the sampled tokens under the policy.
    ref_logps: [B, T] the same under the reference.
    rewards: [B] rewards of whole responses.
    mask: [B, T] bool, True on sampled tokens.
    beta: weight of the log-ratios.
  """
  rewards = token_rewards(logps, ref_logps, rewards, mask, beta=beta)
  return reward_to_go(rewards, mask)


@functools.partial(jax.jit, static_argnames="beta")
def returns_of_tokens(
  logps: Array, ref_logps: Array, rewards: Array, mask: Array, beta: float
) -> Array:
  """As `returns_of_rewards`, for rewards [B, T] of tokens."""
  penalties = jnp.where(mask, logps - ref_logps, 0.0)
  return reward_to_go(rewards - beta * penalties, mask)
