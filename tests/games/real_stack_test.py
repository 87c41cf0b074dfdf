"""Online algorithms on an enumerated game, through the loop that trains.

Sampled gradients agree with those by enumeration, and training ends where they
vanish: at the algorithm's own stationary point, which is the Nash equilibrium
only for algorithms whose theory says so.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign.data import PromptBatch
from jalign.feedback import from_batch
from jalign.games import kl, regularized_nash, sequence_game, tables
from jalign.online import ALGORITHMS, make_round
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.games.stationary import (
  GAME,
  ROWS,
  L,
  V,
  exact_gradient,
  loss_of,
  stationary,
)

PREFERENCES = np.asarray(GAME.preferences())
LOG_REFERENCE = np.asarray(GAME.log_reference)
REFERENCE = np.exp(LOG_REFERENCE)
TAU = 0.1
MODEL = tables.tabular(V, L)
# A policy away from the reference, where no gradient vanishes.
TABLE = np.random.default_rng(0).normal(0, 1, (13, 3)).astype(np.float32)
# A normal variable exceeds this with probability 7e-6.
LEVEL = 4.5


def _reference_params():
  table = np.asarray(tables.table_of(LOG_REFERENCE, V), np.float32)
  return {"logits": jnp.asarray(table)}


def _prompts(count):
  return PromptBatch(
    np.zeros((count, 1), np.int32),
    np.ones(count, np.int32),
    np.ones(count, np.float32),
    [""] * count,
  )


def _round(name, preferences=GAME.annotate):
  return make_round(
    ALGORITHMS[name],
    MODEL,
    from_batch(preferences),
    sequence_game.decode,
    max_new_tokens=L,
    stop_ids=(),
    mix_ref=ROWS[name].mix_ref,
  )


@functools.cache
def _exact(name):
  with jax.enable_x64(True):
    return np.asarray(exact_gradient(name)(jnp.asarray(TABLE, jnp.float64)))


@functools.cache  # two tests look at the same estimates
def _estimates(name, preferences=GAME.annotate, batches=64, pairs=256):
  """[batches, 13, 3] gradients of sampled batches, as updates compute them."""
  objective = make_objective(loss_of(name), MODEL)
  gradient = jax.jit(jax.grad(objective.sums, has_aux=True))
  play, reference = _round(name, preferences), _reference_params()
  params, gradients = {"logits": jnp.asarray(TABLE)}, []
  for i in range(batches):
    got = play(params, reference, _prompts(pairs), jax.random.key(i))
    grads, (count, _) = gradient(params, got.batches[0], reference)
    gradients.append(np.asarray(grads["logits"]) / float(count))
  return np.stack(gradients)


def _worst(estimates, exact):
  """Largest |z| of the estimates' mean against the exact gradient."""
  error = estimates.std(0, ddof=1) / np.sqrt(len(estimates))
  return np.abs((estimates.mean(0) - exact) / error).max()


def test_every_online_algorithm_has_its_row():
  assert ROWS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_the_sampled_gradient_is_unbiased(name):
  """None of 39 coordinates is off by 4.5 standard errors (chance 3e-4)."""
  estimates, exact = _estimates(name), _exact(name)
  assert _worst(estimates, exact) < LEVEL
  # The check can fail: the gradient is neither 0 nor its opposite.
  assert _worst(estimates, 0 * exact) > 2 * LEVEL


def test_a_wrong_gradient_is_found():
  """Wrong: the token-local KL, reversed preferences, another mixture."""
  estimates = _estimates("nash_md")
  assert _worst(estimates, _exact("nash_md_token_kl")) > 2 * LEVEL
  swapped = lambda prompts, a, b: GAME.annotate(prompts, b, a)
  assert _worst(_estimates("nash_md", swapped), _exact("nash_md")) > 2 * LEVEL
  assert _worst(_estimates("ipo_md"), _exact("online_ipo")) > 2 * LEVEL


def _scores():
  """[N, 13, 3] d log policy(y) / d logits, from the formula."""
  p = np.exp(TABLE.astype(np.float64))
  p /= p.sum(-1, keepdims=True)
  scores, log_policy = np.zeros((V**L, 13, V)), np.zeros(V**L)
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
    tables.token_mixture(log_policy, LOG_REFERENCE, ROWS["nash_md"].mix_ref, V)
  )
  policy, mixture = np.exp(log_policy), np.exp(mixture)

  def along(sampler, advantages):
    return np.einsum("n,nij->ij", sampler * advantages, scores)

  # Nash-MD: E grad log pi (P(y > mixture) - 1/2 - tau log-ratio), to descend.
  wins = PREFERENCES @ mixture - 0.5
  np.testing.assert_allclose(
    _exact("nash_md"), -along(policy, wins - TAU * ratios), atol=1e-14
  )
  # Online IPO: -4 / tau times self-play's.
  wins = PREFERENCES @ policy - 0.5
  np.testing.assert_allclose(
    _exact("online_ipo"),
    -4 / TAU * along(policy, wins - TAU * ratios),
    atol=1e-13,
  )
  # IPO-MD has this under the mixture, where the log-ratio must be centred.
  wins = PREFERENCES @ mixture - 0.5
  centred = ratios - mixture @ ratios
  np.testing.assert_allclose(
    _exact("ipo_md"),
    -4 / TAU * along(mixture, wins - TAU * centred),
    atol=1e-13,
  )
  # Online DPO: 2 beta E (sigmoid(beta h) - P), the pair in both orders.
  beta = ROWS["online_dpo"].settings["beta"]
  h = ratios[:, None] - ratios[None]
  pull = (PREFERENCES - 1 / (1 + np.exp(-beta * h))) @ policy
  np.testing.assert_allclose(
    _exact("online_dpo"), -2 * beta * along(policy, pull), atol=1e-14
  )


def test_stationary_points_are_nash_only_where_theory_says():
  nash = np.asarray(regularized_nash(PREFERENCES, REFERENCE, TAU))
  points = {name: stationary(name) for name in ROWS}
  np.testing.assert_allclose(points["online_ipo"], nash, atol=1e-11)
  # Both algorithms with mixtures settle at reference exp(P(. > mixture) / tau).
  policy = points["nash_md"]
  np.testing.assert_allclose(points["ipo_md"], policy, atol=1e-11)
  mixture = tables.token_mixture(
    np.log(policy), LOG_REFERENCE, ROWS["nash_md"].mix_ref, V
  )
  response = REFERENCE * np.exp(PREFERENCES @ np.exp(mixture) / TAU)
  np.testing.assert_allclose(policy, response / response.sum(), atol=1e-11)
  assert float(kl(nash, policy)) > 0.01
  # With the token-local KL the policy settles elsewhere again.
  assert float(kl(policy, points["nash_md_token_kl"])) > 2e-3
  # Online DPO: its model of preferences is right on average for each response.
  dpo, beta = points["online_dpo"], ROWS["online_dpo"].settings["beta"]
  ratios = np.log(dpo) - LOG_REFERENCE
  model = 1 / (1 + np.exp(-beta * (ratios[:, None] - ratios[None])))
  np.testing.assert_allclose((PREFERENCES - model) @ dpo, 0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_training_reaches_its_own_stationary_point(name):
  """It reaches no other algorithm's: those are 3e-3 apart, or equal."""
  pairs, steps = 512, 2500
  # A fraction of the exact iteration's rate, because samples are noisy.
  rate = optax.linear_schedule(0.3 * ROWS[name].speed, 0.0, steps)
  optimizer = optax.sgd(rate)
  update = make_update(make_objective(loss_of(name), MODEL), optimizer)
  play, reference = _round(name), _reference_params()
  state = init_state(jax.tree.map(jnp.copy, reference), optimizer)
  for step in range(steps):
    key = jax.random.fold_in(jax.random.key(0), step)
    got = play(state.params, reference, _prompts(pairs), key)
    state, _ = update(state, got.batches[0], reference)
  table = np.asarray(state.params["logits"])
  with jax.enable_x64(True):
    policy = np.exp(tables.log_probs(jnp.asarray(table, float), L))
  divergence = float(kl(stationary(name), policy))
  print(f"{name}: KL(stationary || trained) = {divergence:.2e}")
  assert divergence < 1e-3
