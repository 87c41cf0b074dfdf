"""Online algorithms on an enumerated game, through the loop that trains.

Sampled gradients agree with those by enumeration, and training ends where they
vanish: at the algorithm's own stationary point, which is the Nash equilibrium
only for algorithms whose theory says so.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.games import kl, sequence_game, tables
from jalign.online import ALGORITHMS
from tests.games import exact_games, exact_iterates, exact_rewards
from tests.games.sampled import (
  JUDGE,
  algorithm_of,
  estimates,
  estimates_of,
  trained,
  worst,
)
from tests.games.stationary import (
  ROWS,
  UNCOVERED,
  exact,
  exact_of,
  gradient_of,
  stationary,
)
from tests.games.world import (
  GAME,
  LOG_REFERENCE,
  PREFERENCES,
  TABLE,
  L,
  N,
  V,
)

TAU = exact_games.TAU
# A normal variable exceeds this with probability 7e-6.
LEVEL = 4.5


def test_every_online_algorithm_has_its_row():
  assert ROWS.keys() | UNCOVERED.keys() == ALGORITHMS.keys()
  assert not ROWS.keys() & UNCOVERED.keys()


# Mistakes: the objective of what the algorithm would then descend.
MISTAKES = {
  "each token pays for its own log-ratio only": (
    "nash_md",
    exact_games.token_kl,
  ),
  "the policy alone instead of the mixture": (
    "ipo_md",
    exact_games.on_pairs(exact_games.policy, exact_games.ipo),
  ),
  "the policy as the opponent instead of its average": (
    "nash_ema",
    exact_games.against(exact_games.policy),
  ),
  "the reference as the anchor instead of the iterate": (
    "inpo",
    exact_games.on_pairs(exact_games.kept, exact_iterates.inpo),
  ),
  "advantages of the opposite sign": ("rloo", exact_rewards.rlhf(-1.0)),
  "a mean over the other samples only": (
    "dr_grpo",
    exact_rewards.rlhf(1.0, 0.0),
  ),
  "responses of the policy instead of the iterate": (
    "raft",
    exact_rewards.imitation(exact_games.policy),
  ),
  "the loss of another divergence": (
    "f_dpg_js",
    exact_rewards.towards_target(exact_rewards.DIVERGENCES["reverse_kl"]),
  ),
  "values that count one step only": ("ppo", exact_rewards.ppo(0.0)),
}


# The others' samples take no part in other tests, and are in the slow lane.
FAST = {name for name, _ in MISTAKES.values()}


@pytest.mark.parametrize(
  "name",
  [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in ROWS
  ],
)
def test_the_sampled_gradient_is_unbiased(name):
  """None of 39 coordinates is off by 4.5 standard errors (chance 3e-4)."""
  sampled = estimates(name)
  assert worst(sampled, exact(name)) < LEVEL
  # The check can fail: the gradient is neither 0 nor its opposite.
  assert worst(sampled, 0 * exact(name)) > 2 * LEVEL


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
  name, objective = MISTAKES[mistake]
  wrong = exact_of(ROWS[name]._replace(objective=objective))
  assert worst(estimates(name), wrong) > 2 * LEVEL


def test_reversed_preferences_are_found():
  swapped = JUDGE._replace(preference=lambda a, b: JUDGE.preference(b, a))
  sampled = estimates_of(ROWS["nash_md"], algorithm_of("nash_md"), swapped)
  assert worst(sampled, exact("nash_md")) > 2 * LEVEL


def test_generalised_advantages_are_exact_with_any_critic():
  """With lam < 1 errors of the critic bias the gradient as the formula says."""
  row = ROWS["ppo"]._replace(objective=exact_rewards.ppo(0.5))
  row = row._replace(settings={**row.settings, "lam": 0.5})
  sampled = estimates_of(row, algorithm_of("ppo", row))
  assert worst(sampled, exact_of(row)) < LEVEL
  assert worst(sampled, exact("ppo")) > 2 * LEVEL


def _scores():
  """[N, 13, 3] d log policy(y) / d logits, from the formula."""
  p = np.exp(TABLE.astype(np.float64))
  p /= p.sum(-1, keepdims=True)
  scores, log_policy = np.zeros((N, N // 2, V)), np.zeros(N)
  for i, row in enumerate(tables.sequences(V, L)):
    node = 0
    for token in row:
      scores[i, node] -= p[node]
      scores[i, node, token] += 1
      log_policy[i] += np.log(p[node, token])
      node = V * node + 1 + token
  return scores, log_policy


def test_exact_gradients_are_those_of_the_papers():
  scores, log_policy = _scores()
  ratios = log_policy - LOG_REFERENCE
  mixture = np.asarray(
    tables.token_mixture(log_policy, LOG_REFERENCE, exact_games.MIX_REF, V)
  )
  policy, mixture = np.exp(log_policy), np.exp(mixture)

  def along(sampler, advantages):
    return np.einsum("n,nij->ij", sampler * advantages, scores)

  # Nash-MD: E grad log pi (P(y > mixture) - 1/2 - tau log-ratio), to descend.
  wins = PREFERENCES @ mixture - 0.5
  np.testing.assert_allclose(
    exact("nash_md"), -along(policy, wins - TAU * ratios), atol=1e-14
  )
  # Online IPO: -4 / tau times self-play's.
  wins = PREFERENCES @ policy - 0.5
  np.testing.assert_allclose(
    exact("online_ipo"),
    -4 / TAU * along(policy, wins - TAU * ratios),
    atol=1e-13,
  )
  # IPO-MD has this under the mixture, where the log-ratio must be centred.
  wins = PREFERENCES @ mixture - 0.5
  centred = ratios - mixture @ ratios
  np.testing.assert_allclose(
    exact("ipo_md"),
    -4 / TAU * along(mixture, wins - TAU * centred),
    atol=1e-13,
  )
  # Online DPO: 2 beta E (sigmoid(beta h) - P), the pair in both orders.
  beta = exact_games.BETA
  h = ratios[:, None] - ratios[None]
  pull = (PREFERENCES - 1 / (1 + np.exp(-beta * h))) @ policy
  np.testing.assert_allclose(
    exact("online_dpo"), -2 * beta * along(policy, pull), atol=1e-14
  )


def test_the_games_own_expectations_agree():
  """`sequence_game` has them for a user's loss on pairs or first responses."""
  with jax.enable_x64(True):
    table = jnp.asarray(TABLE, jnp.float64)
    log_policy = tables.log_probs(table, L)
    mixture = tables.token_mixture(
      log_policy, LOG_REFERENCE, exact_games.MIX_REF, V
    )
    for name in "online_dpo", "online_ipo", "ipo_md", "nash_md":
      loss = functools.partial(
        losses.CATALOGUE[ALGORITHMS[name].loss].function, **ROWS[name].loss
      )
      if name == "nash_md":
        got = jax.grad(
          lambda x, loss=loss: sequence_game.expected_response_loss(
            loss, x, GAME, log_policy, mixture
          )
        )(table)
      else:
        sampler = mixture if name == "ipo_md" else log_policy
        soft = name != "online_dpo"
        got = jax.grad(
          lambda x, loss=loss, sampler=sampler, soft=soft: (
            sequence_game.expected_pair_loss(loss, x, GAME, sampler, soft=soft)
          )
        )(table)
      np.testing.assert_allclose(got, exact(name), atol=1e-13)


def test_stationary_points_are_nash_only_where_theory_says():
  nash = exact_games.nash()
  # Both algorithms with mixtures settle at reference exp(P(. > mixture) / tau).
  policy = stationary("nash_md")
  np.testing.assert_allclose(stationary("ipo_md"), policy, atol=1e-11)
  mixture = tables.token_mixture(
    np.log(policy), LOG_REFERENCE, exact_games.MIX_REF, V
  )
  response = exact_games.response_to(np.exp(mixture))
  np.testing.assert_allclose(policy, response, atol=1e-11)
  assert float(kl(nash, policy)) > 0.01
  # With the token-local KL the policy settles elsewhere again.
  assert float(kl(policy, stationary("nash_md_token_kl"))) > 2e-3
  # Online DPO: its model of preferences is right on average for each response.
  dpo, beta = stationary("online_dpo"), exact_games.BETA
  ratios = np.log(dpo) - LOG_REFERENCE
  model = 1 / (1 + np.exp(-beta * (ratios[:, None] - ratios[None])))
  np.testing.assert_allclose((PREFERENCES - model) @ dpo, 0, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in ROWS if ROWS[n].point])
def test_the_gradient_vanishes_where_theory_says(name):
  """There the carry keeps the same policy, unless the carry never changes."""
  row = ROWS[name]
  with jax.enable_x64(True):
    table = tables.table_of(np.log(stationary(name)), V)
    kept = tables.table_of(LOG_REFERENCE, V) if row.held else table
    gradient = np.asarray(gradient_of(row)(table, kept))
  scale = np.abs(exact(name)).max()
  assert np.abs(gradient).max() < 1e-10 * scale


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ROWS if ROWS[n].settles])
def test_training_reaches_its_own_stationary_point(name):
  """It reaches no other algorithm's: those are 3e-3 apart, or equal."""
  policy = trained(name)
  divergence = float(kl(stationary(name), policy))
  print(f"{name}: KL(stationary || trained) = {divergence:.2e}")
  assert divergence < 1e-3
