"""Equilibria, best responses and exploitability against independent facts."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jalign import games
from jalign.errors import UserError
from jalign.games import examples

GOLDEN = examples.golden()
P, MU = GOLDEN.preferences, GOLDEN.reference
few = hypothesis.settings(max_examples=20, deadline=None)
seeds, taus = st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 1.0])


def _policies(n, seed, count=2):
  logits = np.random.default_rng(seed).standard_normal((count, n))
  return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize(
  "tau, expected",
  [
    (1.0, (0.52200373, 0.26086031, 0.21713596)),
    (0.3, (0.51316410, 0.20657208, 0.28026381)),
    (0.1, (0.40088885, 0.21182226, 0.38728889)),
    (0.03, (0.32513371, 0.26560798, 0.40925832)),
  ],
)
def test_golden_equilibria(tau, expected):
  policy = games.regularized_nash(P, MU, tau)
  np.testing.assert_allclose(policy, expected, rtol=0, atol=6e-9)


@few
@hypothesis.given(seed=seeds, tau=taus)
def test_the_equilibrium_answers_itself(seed, tau):
  game = examples.random_game(7, seed)
  nash = np.asarray(games.regularized_nash(*game[:2], tau), np.float64)
  logits = np.log(game.reference) + game.preferences @ nash / tau
  best = np.exp(logits - logits.max())
  np.testing.assert_allclose(nash, best / best.sum(), rtol=1e-11, atol=1e-300)


@few
@hypothesis.given(seed=seeds, tau=taus)
def test_both_forms_of_exploitability_and_a_search(seed, tau):
  game = examples.random_game(4, seed)
  policy, other = _policies(4, seed)
  args = (game.preferences, game.reference, tau)
  gain = float(games.exploitability(policy, *args))
  by_value = float(games.exploitability_by_value(policy, *args))
  assert abs(gain - by_value) < 1e-12
  # By definition, the best response earns this much, and no other response.
  best = games.best_response(policy, *args)
  earns = lambda p: float(games.regularized_payoff(p, policy, *args)) - 0.5
  assert abs(earns(best) - gain) < 1e-12
  assert earns(other) < gain
  assert abs(earns(policy)) < 1e-15
  gap = games.duality_gap(policy, other, *args)
  both = gain + float(games.exploitability(other, *args))
  assert abs(float(gap) - both) < 1e-12


def test_payoffs_from_the_definition():
  p, q = _policies(3, 0)
  kl = lambda a: (a * np.log(a / MU)).sum()
  expected = p @ P @ q - 0.3 * kl(p) + 0.3 * kl(q)
  payoff = games.regularized_payoff(p, q, P, MU, 0.3)
  back = games.regularized_payoff(q, p, P, MU, 0.3)
  assert abs(float(payoff) - expected) < 1e-14
  assert abs(float(payoff + back) - 1) < 1e-14


def test_margins_give_the_plain_equilibrium():
  a, b, c = 0.1, 0.25, 0.45
  game = examples.margins_cycle(a, b, c)
  expected = np.array([b, c, a]) / (a + b + c)
  np.testing.assert_allclose(games.nash(game.preferences), expected, atol=1e-14)
  np.testing.assert_allclose(games.nash(P), (0.3, 0.3, 0.4), atol=1e-14)


@pytest.mark.parametrize("n", [2, 9, 30])
def test_no_action_beats_the_plain_equilibrium(n):
  game = examples.random_game(n, n)
  policy = games.nash(game.preferences)
  assert float(games.exploitability(policy, game.preferences)) < 1e-12
  assert abs(np.asarray(policy).sum() - 1) < 1e-12


def test_dice_and_raters():
  dice = examples.dice().preferences
  assert abs(dice[0, 1] - 5 / 9) < 1e-15
  np.testing.assert_allclose(games.nash(dice), np.full(3, 1 / 3), atol=1e-14)
  for e in (-0.2, 0.0, 0.1):
    policy = games.nash(examples.rater_types(e).preferences)
    expected = (1 / 3 + e / 2, 1 / 3 + e / 2, 1 / 3 - e)
    np.testing.assert_allclose(policy, expected, atol=1e-13)


def test_elo_rewards_and_win_rates_part_on_a_constraint():
  game = examples.elo()
  r = np.log([1, 9, 2])
  line = lambda x: np.array([2 * x, x, 1 - 3 * x])  # pi(y1) = 2 pi(y2)
  assert line(1 / 3) @ r > max(line(x) @ r for x in np.linspace(0, 0.33, 9))
  ours, theirs = line(0.0), line(1 / 3)
  assert abs(ours @ game.preferences @ theirs - 50 / 99) < 1e-15


def test_bradley_terry_fit_of_the_golden_game():
  r = np.asarray(games.bradley_terry_fit(P))
  np.testing.assert_allclose(r, (0.13393, -0.13393, 0), atol=5e-6)
  q = 1 / (1 + np.exp(r[None] - r[:, None]))
  off = ~np.eye(3, dtype=bool)
  assert abs(-(P * np.log(q))[off].mean() - 0.3443) < 5e-5
  policy = MU * np.exp(r / 0.1)
  policy /= policy.sum()
  np.testing.assert_allclose(policy, (0.873, 0.036, 0.091), atol=5e-4)
  assert abs(float(games.exploitability(policy, P, MU, 0.1)) - 0.1407) < 5e-5
  nash = np.asarray(games.regularized_nash(P, MU, 0.1))
  assert abs(nash @ P @ policy - 0.524) < 5e-4


def test_bradley_terry_fit_finds_ratings_and_weighs_pairs():
  r = np.array([0.3, -1.0, 0.7])
  fitted = games.bradley_terry_fit(examples.elo(r).preferences)
  np.testing.assert_allclose(fitted, r - r.mean(), atol=1e-12)
  weights = np.random.default_rng(0).uniform(0.1, 1, (3, 3))
  fitted = np.asarray(games.bradley_terry_fit(P, weights))
  w = (weights + weights.T) * (1 - np.eye(3))

  def loss(x):
    return (w * P * np.log1p(np.exp(x[None] - x[:, None]))).sum()

  searched = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
  np.testing.assert_allclose(fitted, searched - searched.mean(), atol=1e-6)


def test_contexts_are_their_own_games():
  both = np.stack([P, P.T])
  mus = np.stack([MU, MU[::-1]])
  for f in (
    lambda p, m: games.regularized_nash(p, m, 0.1),
    lambda p, m: games.exploitability(m, p, m, 0.1),
    lambda p, m: games.best_response(m, p, m, 0.1),
    lambda p, m: games.nash(p),
    lambda p, m: games.bradley_terry_fit(p),
  ):
    alone = np.stack([f(both[i], mus[i]) for i in range(2)])
    np.testing.assert_allclose(f(both, mus), alone, atol=1e-13)
    with jax.enable_x64(True):
      mapped = jax.vmap(f)(jnp.asarray(both), jnp.asarray(mus))
      np.testing.assert_allclose(mapped, alone, atol=1e-13)


def test_a_sweep_of_tau_is_one_vmap_and_jits():
  with jax.enable_x64(True):
    taus = jnp.array([0.03, 0.3])
    solve = jax.jit(jax.vmap(lambda t: games.regularized_nash(P, MU, t)))
    policies = solve(taus)
  alone = np.stack([games.regularized_nash(P, MU, t) for t in (0.03, 0.3)])
  np.testing.assert_allclose(policies, alone, atol=1e-13)


def test_float64_outside_of_a_scope():
  assert games.regularized_nash(P, MU, 0.1).dtype == np.float64
  assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
  "args, said",
  [
    ((P + 0.01, MU, 0.1), "P + P^T must be 1"),
    ((P * 3 - 1, MU, 0.1), "not in [0, 1]"),
    ((P * np.nan, MU, 0.1), "not in [0, 1]"),
    ((0.5 + 0.50001 * np.sign(P - 0.5), MU, 0.1), "not in [0, 1]"),
    ((P[:2], MU, 0.1), "[..., n, n]"),
    ((P, np.array([0.5, 0.5, 0.0]), 0.1), "full support"),
    ((P, MU * 2, 0.1), "outside [0, 1]|sums to"),
    ((P, MU[:2], 0.1), "for 3 actions"),
    ((P, MU, 0.0), "must be > 0"),
    ((P, MU, -1.0), "must be > 0"),
  ],
)
def test_bad_games_are_refused_by_name(args, said):
  with pytest.raises(UserError) as e:
    games.regularized_nash(*args)
  assert any(part in str(e.value) for part in said.split("|"))


def test_certain_preferences_have_no_finite_rewards():
  p = np.array([[0.5, 1.0], [0.0, 0.5]])
  with pytest.raises(UserError, match="no finite rewards"):
    games.bradley_terry_fit(p)
  with pytest.raises(UserError, match="no equilibrium within 1"):
    games.regularized_nash(
      examples.random_game(600, 0).preferences,
      np.full(600, 1 / 600),
      0.001,
      max_steps=1,
    )
