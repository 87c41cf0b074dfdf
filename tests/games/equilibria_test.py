"""Equilibria of games at the edge: rounding, ties, copies, bad scales."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import games
from jalign.errors import UserError
from jalign.games import equilibria, plain_nash
from tests.games import grid

few = hypothesis.settings(max_examples=25, deadline=None)


def _skew(upper):
  upper = np.triu(upper, 1)
  return upper - upper.T


def _random(n, seed):
  rng = np.random.default_rng(seed)
  return 0.5 + _skew(rng.uniform(-0.5, 0.5, (n, n)))


def _low_rank(n, seed):
  u, v = np.random.default_rng(seed).standard_normal((2, 2, n))
  margins = u.T @ v
  margins -= margins.T
  return 0.5 + margins / np.abs(margins).max() / 2


def _copies(n, seed):
  rows = np.random.default_rng(seed).integers(0, n // 3, n)
  return _random(n, seed)[np.ix_(rows, rows)]


def _near_ties(n, seed):
  rng = np.random.default_rng(seed)
  size = 10.0 ** rng.integers(-14, 1, (n, n))
  return 0.5 + _skew(rng.uniform(-0.5, 0.5, (n, n)) * size)


def _badly_scaled(n, seed):
  rng = np.random.default_rng(seed)
  scale = 10.0 ** rng.uniform(-6, 0, n)
  margins = _skew(rng.standard_normal((n, n))) * scale * scale[:, None]
  return 0.5 + margins / np.abs(margins).max() / 2


def _ties(n, seed):
  rng = np.random.default_rng(seed)
  return 0.5 + _skew(rng.integers(-1, 2, (n, n)) / 2)


def _best_margin(policy, preferences):
  """The most that an action wins against a policy, by NumPy."""
  p = np.asarray(preferences, np.float64)
  return ((p - p.T) / 2 @ policy).max()


@pytest.mark.parametrize(
  "make",
  [
    _random,
    lambda n, seed: _random(n, seed).astype(np.float32),
    lambda n, seed: np.clip(_random(n, seed) + 5e-8, 0, 1),
    lambda n, seed: (_random(n, seed) > 0.5) + 5e-8 + np.eye(n) / 2,
    lambda n, seed: _copies(n, seed).astype(np.float32),
    _low_rank,
    _copies,
    _near_ties,
    _badly_scaled,
    _ties,
  ],
  ids=[
    "random", "float32", "sums to 1 + 1e-7", "leaves [0, 1] by rounding",
    "float32 copies", "low rank", "copies", "near ties", "badly scaled", "ties",
  ],
)  # fmt: skip
def test_no_action_beats_a_plain_equilibrium(make):
  for seed in range(8):
    game = make(50, seed)
    policy = np.asarray(games.nash(game))
    assert policy.dtype == np.float64 and policy.min() >= 0
    assert abs(policy.sum() - 1) < 1e-12
    assert _best_margin(policy, game) < 1e-13
    gain = float(games.exploitability(policy, game))
    assert 0 <= gain < 1e-12


@pytest.mark.parametrize("make", [_ties, _copies, _low_rank])
def test_of_many_equilibria_it_is_a_vertex(make):
  """Moving from it along any line leaves the set of equilibria."""
  for seed in range(4):
    game = make(24, seed)
    policy = np.asarray(games.nash(game))
    alive, margins = policy > 1e-12, (game - game.T) / 2
    tight = margins @ policy > -1e-12
    rows = np.vstack([margins[np.ix_(tight, alive)], np.ones(alive.sum())])
    assert np.linalg.matrix_rank(rows, 1e-9) == alive.sum()


@few
@hypothesis.given(
  n=st.integers(1, 9),
  values=st.lists(
    st.sampled_from([0.0, 0.0, 0.5, -0.5, 0.25, 1e-9, -1e-16, 5e-324]),
    min_size=81, max_size=81,
  ),
  twin=st.booleans(),
)  # fmt: skip
def test_any_game_has_a_plain_equilibrium(n, values, twin):
  game = 0.5 + _skew(np.reshape(values[: n * n], (n, n)))
  if twin:
    game[-1], game[:, -1] = game[0], game[:, 0]
    game[-1, -1] = 0.5
  policy = np.asarray(games.nash(game))
  assert _best_margin(policy, game) < 1e-12
  assert abs(policy.sum() - 1) < 1e-12 and policy.min() >= 0


def test_traced_games_that_are_none_give_nan_and_no_error():
  with jax.enable_x64(True):
    both = jnp.stack([jnp.full((3, 3), jnp.nan), jnp.full((3, 3), 0.5)])
    policies = np.asarray(jax.jit(jax.vmap(games.nash))(both))
  assert np.isnan(policies[0]).all() and abs(policies[1].sum() - 1) < 1e-12


def test_a_plain_game_that_is_not_solved_says_so(monkeypatch):
  monkeypatch.setattr(plain_nash, "GAIN", -1.0)
  with pytest.raises(UserError, match="no policy found that no action beats"):
    games.nash(_random(3, 0))
  assert np.isnan(plain_nash.solve(_random(3, 0))).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_policy_gains_by_rounding(seed):
  """Exploitability isn't below 0 for a policy or a game in float32."""
  rng = np.random.default_rng(seed)
  game = _random(20, seed).astype(np.float32) * np.float32(1 - 1e-7)
  policy = np.asarray(games.nash(game), np.float32)
  reference = rng.dirichlet(np.ones(20)).astype(np.float32)
  assert float(games.exploitability(policy, game)) >= 0
  for tau in (1e-3, 1.0):
    nash = games.regularized_nash(game, reference / reference.sum(), tau)
    args = game, reference / reference.sum(), tau
    for p in (np.asarray(nash), np.asarray(nash, np.float32)):
      assert float(games.exploitability(p, *args)) >= 0
      assert float(games.exploitability_by_value(p, *args)) >= 0
      assert float(games.duality_gap(p, p, *args)) >= 0


def test_payoffs_of_a_float32_game_sum_to_one():
  game = _random(20, 0).astype(np.float32)
  p, q, mu = np.random.default_rng(0).dirichlet(np.ones(20), 3)
  there = games.regularized_payoff(p, q, game, mu, 0.1)
  back = games.regularized_payoff(q, p, game, mu, 0.1)
  assert abs(float(there + back) - 1) < 1e-14


def _check(game):
  policy = np.asarray(games.regularized_nash(*game))
  assert grid.error(policy, game) < 2e-12
  assert float(games.exploitability(policy, *game)) >= 0


def test_newton_steps_lead_nowhere_else():
  """The result is right from a reference where Newton steps alone get stuck."""
  cycle = np.array([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])
  _check((cycle, np.array([0.998, 0.001, 0.001]), 1e-3))


def test_the_grid_of_small_games():
  for game in grid.games(3):
    _check(game)


@pytest.mark.slow
@pytest.mark.parametrize("size", grid.SIZES)
def test_the_grid(size):
  for game in grid.games(size):
    _check(game)


def test_a_hard_context_leaves_the_others_alone():
  hard = [g for g in grid.games(3) if g[2] == 1e-3]
  together = np.asarray(
    games.regularized_nash(
      np.stack([p for p, *_ in hard]), np.stack([mu for _, mu, _ in hard]), 1e-3
    )
  )
  for policy, game in zip(together, hard):
    assert grid.error(policy, game) < 2e-12


def _point(theta, game, mu, tau):
  theta = theta - np.log(np.exp(theta).sum())
  logits = np.log(mu) + game @ np.exp(theta) / tau
  residual = theta - (logits - np.log(np.exp(logits).sum()))
  return equilibria._Point(theta, None, residual, None)


def test_a_certified_step_is_nearer():
  """If it says that a policy is nearer, its KL to the Nash isn't larger."""
  yes = 0
  for seed in range(6):
    rng, args = np.random.default_rng(seed), (np.full(3, 1 / 3), 0.1)
    game = _random(3, seed)
    nash = np.asarray(games.regularized_nash(game, *args))
    for spread in (3.0, 0.3, 0.03, 1e-4):
      shift, jump = np.diag([spread, 1.0]) @ rng.standard_normal((2, 3))
      near = _point(np.log(nash) + shift, game, *args)
      far = _point(rng.integers(2) * np.log(nash) + jump, game, *args)
      with jax.enable_x64(True):
        nearer = bool(equilibria._is_nearer(near, far))
      if nearer:
        yes += 1
        to = [float(games.kl(nash, np.exp(p.theta))) for p in (near, far)]
        assert to[0] <= to[1]
  assert yes >= 6


def test_tau_must_be_finite():
  with pytest.raises(UserError, match="> 0 and finite"):
    games.regularized_nash(_random(3, 0), np.full(3, 1 / 3), np.inf)


def test_compiled_where_the_flag_of_jax_is_off():
  game = _random(20, 0).astype(np.float32)
  policy = np.asarray(jax.jit(games.nash)(jnp.asarray(game)))
  np.testing.assert_array_equal(policy, games.nash(game))
  assert _best_margin(policy, game) < 1e-13


@pytest.mark.parametrize(
  "weights, said",
  [
    (-np.ones((3, 3)), "below 0"),
    (np.full((3, 3), np.nan), "not finite"),
    (np.ones(3), r"has shape \(3,\)"),
  ],
)
def test_weights_of_pairs_are_checked(weights, said):
  with pytest.raises(UserError, match=said):
    games.bradley_terry_fit(_random(3, 0), weights)
