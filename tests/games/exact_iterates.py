"""Exact objectives of algorithms whose pairs are an iterate's, or two models'.

The iterate is the policy that the carry keeps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests.games.exact_games import (
  BETA,
  TAU,
  kept,
  nash,
  on_pairs,
  wins,
)
from tests.games.row import Row
from tests.games.world import (
  LOG_REFERENCE,
  PREFERENCES,
  REWARDS,
  K,
  V,
  mean,
)

ETA, SPPO_ETA, ALPHA = 0.4, 2.0, 0.3


def between(here):
  """The model that INPO's margins are relative to."""
  pull = TAU / ETA
  return pull * LOG_REFERENCE + (1 - pull) * here.kept


def inpo(h):
  return (h - 1 / (2 * ETA)) ** 2


def dpo(h):
  return jax.nn.softplus(-BETA * h)


def sppo(tokens, here):
  """A win rate that counts the response itself is 1 / K nearer to 1/2."""
  ratios = tokens.sum(-1) - here.kept
  others = (K - 1) / K * wins(here.kept)
  return mean(here.kept, (ratios - SPPO_ETA * others) ** 2)


def xpo(tokens, here):
  """The policy's response against the reference's, which becomes rarer."""
  log_policy = tokens.sum(-1)
  ratios = log_policy - LOG_REFERENCE
  h = ratios[:, None] - ratios
  loss = PREFERENCES * dpo(h) + (1 - PREFERENCES) * dpo(-h)
  label = mean(here.policy[:, None] + LOG_REFERENCE, loss)
  return label + ALPHA * mean(LOG_REFERENCE, log_policy)


def greedy(log_policy) -> jax.Array:
  """Number of the response of the most probable tokens."""
  # Marginals of prefixes, not the most probable response.
  mass, at = jnp.exp(log_policy).reshape(1, -1), 0
  while mass.shape[1] > 1:
    mass = mass.reshape(V, -1)
    token = mass.sum(1).argmax()
    at, mass = V * at + token, mass[token][None]
  return jnp.asarray(at)


def selm(tokens, here):
  """Best and worst of two samples and the greedy response, which gets rarer.

  Of equal win rates the later draw counts as better, unless a reward decides.
  """
  ratios = tokens.sum(-1) - here.kept
  third = greedy(here.kept)
  first, second = np.indices(PREFERENCES.shape)
  three = jnp.stack([first, second, jnp.full(first.shape, third)], -1)
  table = jnp.asarray(PREFERENCES)[three[..., :, None], three[..., None, :]]
  order = jnp.lexsort((jnp.asarray(REWARDS)[three], table.sum(-1)), -1)
  chosen = jnp.take_along_axis(three, order, -1)
  h = ratios[chosen[..., -1]] - ratios[chosen[..., 0]]
  law = here.kept[:, None] + here.kept
  return mean(law, dpo(h)) + ALPHA * BETA * ratios[third]


_DRIFTS = "the reference is the iterate, so that nothing holds to the start"
ROWS = {
  "inpo": Row(
    on_pairs(kept, inpo, between),
    0.5,
    {"tau": TAU, "eta": ETA},
    {"every": 4},
    point=nash,
  ),
  "sppo": Row(
    sppo,
    loss={"eta": SPPO_ETA},
    settings={"samples": K},
    prompts=4096,
    why=_DRIFTS,
    settles=False,
  ),
  "iterative_dpo": Row(
    on_pairs(kept, dpo, kept),
    loss={"beta": BETA},
    settings={"samples": 2},
    why=_DRIFTS,
    settles=False,
  ),
  "selm": Row(
    selm, loss={"beta": BETA, "alpha": ALPHA}, why=_DRIFTS, settles=False
  ),
  "xpo": Row(xpo, 20.0, {"beta": BETA, "alpha": ALPHA}),
}
