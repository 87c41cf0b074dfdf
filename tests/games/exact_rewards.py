"""Exact objectives of algorithms on rewards, from their papers' formulas."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jalign.games import tables
from tests.games.exact_games import kept, reference
from tests.games.row import Objective, Row
from tests.games.world import (
  CRITIC_BIAS,
  CRITIC_WEIGHT,
  KEPT,
  LOG_REFERENCE,
  REWARDS,
  K,
  L,
  N,
  V,
  groups,
  mean,
  shares,
)

BETA = 0.5


def value(log_policy, beta: float) -> jax.Array:
  """E r - beta KL(policy || reference)."""
  return mean(log_policy, REWARDS - beta * (log_policy - LOG_REFERENCE))


def rlhf(scale: float = 1.0, beta: float = BETA) -> Objective:
  """Minus `value`, times a constant."""
  return lambda tokens, here: -scale * value(tokens.sum(-1), beta)


def optimum(beta: float = BETA) -> np.ndarray:
  """[N] RLHF's optimum, reference exp(r / beta) / Z."""
  logits = LOG_REFERENCE + REWARDS / beta
  return np.exp(logits - np.logaddexp.reduce(logits))


def grpo(tokens, here):
  """Standardised rewards of groups of K, less the k3 estimate of a KL.

  The standard deviation divides by K - 1. Both terms are means over a
  response's L tokens.
  """
  rewards = REWARDS[groups(K)]
  centred = rewards - rewards.mean(-1, keepdims=True)
  advantages = centred / (rewards.std(-1, ddof=1, keepdims=True) + 1e-6)
  gain = jnp.sum(shares(here.policy, advantages) * tokens.sum(-1)) / L
  start = tables.table_of(LOG_REFERENCE, V)
  log_q = tables.token_log_probs(start, L) - tokens
  k3 = (jnp.exp(log_q) - 1 - log_q).mean(-1)
  return BETA * mean(here.policy, k3) - gain


# The mean of f(t) under the target, t = policy / target, is the divergence.
DIVERGENCES: dict[str, Callable[[jax.Array], jax.Array]] = {
  "reverse_kl": lambda t: t * jnp.log(t),
  "forward_kl": lambda t: -jnp.log(t),
  "js": lambda t: t * jnp.log(t) - (1 + t) * jnp.log((1 + t) / 2),
  "tv": lambda t: jnp.abs(t - 1) / 2,
  "forward_chi2": lambda t: (1 - t) ** 2 / t,
  "reverse_chi2": lambda t: (t - 1) ** 2,
}
LOG_Z = 0.4  # as the carry of the f-DPG rows has it, which isn't the true one


def towards_target(f) -> Objective:
  """The divergence to the target of which Z is off, as in early rounds."""

  def objective(tokens, here):
    del here
    target = LOG_REFERENCE + REWARDS / BETA - LOG_Z
    return mean(target, f(jnp.exp(tokens.sum(-1) - target)))

  return objective


def best_of(log_law, count: int = K):
  """[N] law of the best of `count` samples, of equal rewards the first one.

  F(y)^n - F(below y)^n is the probability of the reward of y, which is shared
  by the responses of that reward in proportion to their probabilities.
  """
  law = jnp.exp(log_law)
  below = jnp.asarray(REWARDS[:, None] > REWARDS[None] + 1e-9) @ law
  equal = jnp.asarray(np.abs(REWARDS[:, None] - REWARDS[None]) < 1e-9) @ law
  return law / equal * ((below + equal) ** count - below**count)


def imitation(sampler) -> Objective:
  """The cross-entropy of the best of K samples, per token."""

  def objective(tokens, here):
    law = jax.lax.stop_gradient(best_of(sampler(here)))
    return -jnp.sum(law * tokens.sum(-1)) / L

  return objective


def best_of_reference() -> np.ndarray:
  """[N] law of the best of K samples of the reference."""
  return np.asarray(best_of(LOG_REFERENCE))


def off_target(carry, kept_params):
  """The carry of f-DPG with another Z, and with a baseline."""
  del carry, kept_params
  return {
    "z": {"log_mean": np.float32(LOG_Z), "count": np.float32(1)},
    "factor": {"mean": np.float32(0.3), "count": np.float32(1)},
  }


def with_baseline(carry, kept_params):
  """The carry of REINFORCE after rounds of a mean reward."""
  del carry, kept_params
  return {"mean": np.float32(0.4), "count": np.float32(3)}


def values() -> np.ndarray:
  """[N, L] the critic's value before each token of each response."""
  table = KEPT.astype(np.float64) @ CRITIC_WEIGHT + CRITIC_BIAS
  node, out = np.zeros(N, int), []
  for token in tables.sequences(V, L).T:
    out.append(table[node])
    node = V * node + 1 + token
  return np.stack(out, -1)


def ppo(lam: float) -> Objective:
  """REINFORCE with generalised advantages, whose values aren't right.

  A token's reward is -beta times the log-ratio, and the last token has the
  response's reward in addition.
  """

  def objective(tokens, here):
    drawing = tables.token_log_probs(tables.table_of(here.policy, V), L)
    start = tables.table_of(LOG_REFERENCE, V)
    rewards = -BETA * (drawing - tables.token_log_probs(start, L))
    rewards = rewards.at[:, -1].add(REWARDS)
    before = values()
    after = np.pad(before[:, 1:], ((0, 0), (0, 1)))
    errors = rewards + after - before
    gaps = np.arange(L) - np.arange(L)[:, None]
    advantages = errors @ np.where(gaps >= 0, lam ** np.maximum(gaps, 0), 0).T
    return -mean(here.policy, (advantages * tokens).sum(-1)) / L

  return objective


def _row(objective: Objective, **options) -> Row:
  # Rewards say more about a response than preferences do.
  return Row(objective, prompts=4096, **options)


_PENALTY, _SAMPLES = {"beta": BETA}, {"samples": K}
_UPWARDS = "there is no KL: the policy goes to the responses of highest reward"
ROWS = {
  "reinforce": _row(
    rlhf(1 / L),
    settings=_PENALTY | _SAMPLES,
    point=optimum,
    carry=with_baseline,
  ),
  # The rewards of a response's segments sum to its reward.
  "reinforce_segments": _row(
    rlhf(1 / L),
    settings=_PENALTY | _SAMPLES,
    point=optimum,
    carry=with_baseline,
  ),
  "rloo": _row(rlhf(), settings=_PENALTY | _SAMPLES, point=optimum),
  "remax": _row(rlhf(), settings=_PENALTY | _SAMPLES, point=optimum),
  "grpo": _row(grpo, speed=2.0, loss={"beta": BETA}, settings=_SAMPLES),
  "dr_grpo": _row(
    rlhf((K - 1) / K, 0.0), settings=_SAMPLES, why=_UPWARDS, settles=False
  ),
  # As many prompts as algorithms on pairs have, with which it shares programs.
  "p3o": Row(rlhf(), settings=_PENALTY, point=optimum),
  **{
    f"f_dpg_{name}": _row(
      towards_target(f),
      settings=_PENALTY | _SAMPLES,
      point=optimum,
      carry=off_target,
    )
    for name, f in DIVERGENCES.items()
  },
  # With lam = 1 any value function leaves the gradient unbiased.
  **dict.fromkeys(
    ("ppo", "ppo_segments"),
    _row(
      rlhf(1 / L),
      settings=_PENALTY | _SAMPLES | {"lam": 1.0},
      point=optimum,
    ),
  ),
  # The snapshot stays as it is, so that the law of one round can be seen.
  "raft": _row(
    imitation(kept),
    settings=_SAMPLES | {"every": 10**6},
    point=best_of_reference,
    held=True,
  ),
  "best_of_n_distill": _row(
    imitation(reference), settings=_SAMPLES, point=best_of_reference
  ),
}
