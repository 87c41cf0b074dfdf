"""Exact objectives of algorithms on preferences, from papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from jalign.games import regularized_nash, tables
from tests.games.row import Objective, Row
from tests.games.world import LOG_REFERENCE, PREFERENCES, L, V, mean

TAU, BETA, MIX_REF, STEP = 0.1, 0.5, 0.4, 1.0


# Which policy draws a response.
def policy(here):
  return here.policy


def kept(here):
  return here.kept


def reference(here):
  del here
  return LOG_REFERENCE


def mixture(here):
  return here.mixture(MIX_REF)


def wins(log_law) -> jax.Array:
  """[N] P(y > law) - 1/2."""
  return jnp.asarray(PREFERENCES) @ jnp.exp(log_law) - 0.5


def against(opponent) -> Objective:
  """Minus the value of a policy against an opponent that doesn't respond.

  The value is P(policy > opponent) - 1/2 - tau KL(policy || reference).
  """

  def objective(tokens, here):
    log_policy = tokens.sum(-1)
    gains = wins(opponent(here)) - TAU * (log_policy - LOG_REFERENCE)
    return -mean(log_policy, gains)

  return objective


def proximal(tokens, here):
  """As `against` the kept policy, less the KL to the kept policy over STEP."""
  log_policy = tokens.sum(-1)
  to_kept = mean(log_policy, log_policy - here.kept)
  return against(kept)(tokens, here) + to_kept / STEP


def token_kl(tokens, here):
  """Nash-MD's policy gradient with each token's own log-ratio only."""
  start = tables.table_of(LOG_REFERENCE, V)
  own = jax.lax.stop_gradient(tokens) - tables.token_log_probs(start, L)
  advantages = wins(mixture(here))[:, None] - TAU * own
  return -mean(here.policy, (advantages * tokens).sum(-1))


def on_pairs(sampler, loss, start=reference) -> Objective:
  """The mean loss of ordered pairs of two independent samples.

  Args:
    sampler: the policy that draws both.
    loss: a function of h, the log-ratio to `start` of the preferred response
      less that of the other one.
    start: the policy that log-ratios are taken to.
  """

  def objective(tokens, here):
    ratios = tokens.sum(-1) - start(here)
    h = ratios[:, None] - ratios
    law = sampler(here)
    return mean(law[:, None] + law, 2 * PREFERENCES * loss(h))

  return objective


def dpo(h):
  return jax.nn.softplus(-BETA * h)


def ipo(h):
  return (h - 1 / (2 * TAU)) ** 2


def nash() -> np.ndarray:
  """The equilibrium of the game with KL(. || reference), which is unique."""
  return np.asarray(regularized_nash(PREFERENCES, np.exp(LOG_REFERENCE), TAU))


def response_to(law) -> np.ndarray:
  """The best response reference exp(P(. > law) / tau), normalised."""
  logits = LOG_REFERENCE + PREFERENCES @ np.asarray(law) / TAU
  return np.exp(logits - np.logaddexp.reduce(logits))


# A preference says little about a response, so that these take more rounds.
_STEPS = 500


ROWS = {
  "online_dpo": Row(on_pairs(policy, dpo), 20.0, {"beta": BETA}, steps=_STEPS),
  "online_ipo": Row(on_pairs(policy, ipo), 0.25, {"tau": TAU}, point=nash),
  "ipo_md": Row(on_pairs(mixture, ipo), 0.25, {"tau": TAU}),
  "nash_md": Row(against(mixture), 20.0, {"tau": TAU}, steps=_STEPS),
  "nash_md_token_kl": Row(token_kl, 20.0, {"tau": TAU}, steps=_STEPS),
  "nash_ema": Row(
    against(kept), 20.0, {"tau": TAU}, {"decay": 0.9}, point=nash, steps=_STEPS
  ),
  "self_play": Row(against(policy), 20.0, {"tau": TAU}, point=nash),
  "best_response": Row(
    against(reference),
    20.0,
    {"tau": TAU},
    point=lambda: response_to(np.exp(LOG_REFERENCE)),
    steps=_STEPS,
  ),
  "nash_mirror_prox": Row(
    proximal,
    2.0,
    {"tau": TAU, "step": STEP},
    {"inner": 4},
    point=nash,
    steps=_STEPS,
  ),
  "egpo": Row(against(kept), 20.0, {"tau": TAU}, point=nash, steps=_STEPS),
}
