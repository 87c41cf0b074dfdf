"""Where losses of iterated methods have their minima, in small exact games."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.games.examples import golden

G1 = golden()
MU = G1.reference
OLD = np.array([0.15, 0.6, 0.25])
TAU, ETA = 0.1, 0.7


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _normal(weights):
  return weights / weights.sum()


def _pair_slope(loss, policy, sampler, preferences, **logps):
  """[n] the gradient by log policy of a mean over all pairs of the sampler's.

  Args:
    loss: a loss on pairs with hyperparameters bound.
    policy: [n] probabilities.
    sampler: [n] probabilities of the model that draws both responses.
    preferences: [n, n] P(row > column).
    **logps: by prefix, such as ref, [n] log-probs under a fixed model.
  """
  first, second = np.indices(preferences.shape).reshape(2, -1)
  names = losses.array_parameters(loss)

  def mean(x):
    arrays = {"preference": preferences.reshape(-1)}
    for prefix, all_logps in {"": x, **logps}.items():
      arrays[f"{prefix}chosen_logps"] = all_logps[first]
      arrays[f"{prefix}rejected_logps"] = all_logps[second]
    values = loss(*(arrays[name] for name in names))
    return jnp.sum(np.outer(sampler, sampler).reshape(-1) * values)

  return np.asarray(jax.grad(mean)(jnp.log(policy)))


def test_inpo_is_least_at_the_mirror_descent_step():
  slope = functools.partial(
    _pair_slope,
    functools.partial(losses.inpo, tau=TAU, eta=ETA),
    sampler=OLD,
    preferences=G1.preferences,
    ref_=np.log(MU),
    old_=np.log(OLD),
  )
  pull = TAU / ETA
  step = _normal(
    OLD ** (1 - pull) * MU**pull * np.exp(G1.preferences @ OLD / ETA)
  )
  np.testing.assert_allclose(slope(step), 0, atol=1e-13)
  # eta as a step size, no pull, and the old policy are no minima.
  for other in (
    _normal(OLD * np.exp(G1.preferences @ OLD / ETA)),
    _normal(OLD ** (1 - pull) * MU**pull * np.exp(ETA * G1.preferences @ OLD)),
    OLD,
  ):
    assert np.abs(slope(other)).max() > 0.01


def test_the_paired_loss_of_inpo_is_a_constant_away_from_that_of_win_rates():
  """Its proposition 6: the labels are outcomes, and the target win rates."""
  first, second = np.indices((3, 3)).reshape(2, -1)
  weights = np.outer(OLD, OLD).reshape(-1)
  wins = G1.preferences @ OLD
  gaps = []
  for seed in range(3):
    policy = np.random.default_rng(seed).dirichlet(np.ones(3))
    m = lambda p: np.log(p)[first] - np.log(p)[second]
    h = m(policy) - TAU / ETA * m(MU) - (1 - TAU / ETA) * m(OLD)
    target = (wins[first] - wins[second]) / ETA
    logps = [
      np.log(p)[side] for p in (policy, MU, OLD) for side in (first, second)
    ]
    loss = losses.inpo(*logps, G1.preferences.reshape(-1), tau=TAU, eta=ETA)
    gaps.append(np.sum(weights * (np.asarray(loss) - (h - target) ** 2)))
  np.testing.assert_allclose(gaps, gaps[0], rtol=1e-12)
  assert gaps[0] > 0.1


def test_inpo_without_a_pull_to_the_iterate_is_ipo():
  """At eta = tau it would be; eta has to be above tau."""
  arrays = np.random.default_rng(0).normal(size=(7, 5))
  arrays[6] = np.linspace(0, 1, 5)
  near = losses.inpo(*arrays, tau=0.5, eta=0.5 * (1 + 1e-9))
  ipo = losses.ipo_soft(*arrays[:4], arrays[6], tau=0.5)
  np.testing.assert_allclose(near, ipo, rtol=1e-7)
  for eta in (0.5, 0.3):
    with pytest.raises(UserError, match="eta must be above tau.*raise eta"):
      losses.inpo(*arrays, tau=0.5, eta=eta)


@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_sppo_is_as_far_from_zero_for_every_response_of_a_step(eta):
  """At a step of multiplicative weights only the normaliser is left over."""
  wins = G1.preferences @ OLD
  unnormalised = OLD * np.exp(eta * (wins - 0.5))
  step = _normal(unnormalised)
  left = losses.sppo_win_rate(np.log(step), np.log(OLD), wins, eta=eta)
  np.testing.assert_allclose(left, np.log(unnormalised.sum()) ** 2, rtol=1e-9)
  # The exact normaliser in place of 1/2 would give 0.
  exact = wins + 0.5 - np.log((OLD * np.exp(eta * wins)).sum()) / eta
  zero = losses.sppo_win_rate(np.log(step), np.log(OLD), exact, eta=eta)
  np.testing.assert_allclose(zero, 0, atol=1e-24)


def test_rounds_of_dpo_add_up_where_the_reference_is_the_iterate():
  """After t rounds the policy is mu exp(t r / beta), else mu exp(r / beta)."""
  rewards, beta = np.array([0.0, 1.0, -0.5]), 0.8
  labels = 1 / (1 + np.exp(rewards[None] - rewards[:, None]))
  loss = functools.partial(losses.dpo_soft, beta=beta)
  iterate = MU
  for rounds in range(1, 4):
    policy = _normal(MU * np.exp(rounds * rewards / beta))
    drift = _pair_slope(loss, policy, iterate, labels, ref_=np.log(iterate))
    np.testing.assert_allclose(drift, 0, atol=1e-14)
    fixed = _normal(MU * np.exp(rewards / beta))
    stay = _pair_slope(loss, fixed, iterate, labels, ref_=np.log(MU))
    np.testing.assert_allclose(stay, 0, atol=1e-14)
    iterate = policy
  assert (
    np.abs(
      _pair_slope(loss, fixed, iterate, labels, ref_=np.log(iterate))
    ).max()
    > 1e-3
  )


def test_a_proximal_step_is_where_all_advantages_are_equal():
  """Responses of one token; the gradient by its log-prob is -A."""
  step, opponent = 1.7, np.array([0.2, 0.2, 0.6])
  wins = G1.preferences @ opponent
  power = 1 / (1 + step * TAU)
  policy = _normal((OLD * MU ** (step * TAU) * np.exp(step * wins)) ** power)
  rows = [np.log(p)[:, None] for p in (policy, MU, OLD)]

  def slopes(size):
    loss = lambda x: losses.nash_prox(
      x, *rows[1:], wins, np.ones((3, 1), bool), tau=TAU, step=size
    ).sum()
    return np.asarray(jax.grad(loss)(jnp.asarray(rows[0])))[:, 0]

  np.testing.assert_allclose(slopes(step), slopes(step)[0], atol=1e-14)
  assert np.ptp(slopes(2 * step)) > 0.01


def _stuck(alpha, seeds=20, rounds=200, gap=0.5, beta=0.02):
  """Share of XPO's runs on two arms that end 1/8 below the best value.

  The reference hardly ever plays the better arm. A policy is a gap of rewards
  in [-1, 1], which bounds its log-ratios as the theory does.
  """
  mu = np.exp(-1 / (8 * beta))  # of the better arm
  gaps = np.linspace(-1, 1, 401)
  odds = np.log(mu) - np.log1p(-mu) + gaps / beta
  log_policy = -np.logaddexp(0, [-odds, odds])  # [2, gaps], better arm first
  log_mu = np.log([mu, 1 - mu])
  # [2, 2, 2, gaps] losses: our arm, the reference's arm, whether ours is better
  ours, theirs, won = np.indices((2, 2, 2)).reshape(3, -1)
  like = np.ones((8, len(gaps)))
  table = losses.xpo(
    log_policy[ours].reshape(-1),
    log_policy[theirs].reshape(-1),
    (log_mu[ours, None] * like).reshape(-1),
    (log_mu[theirs, None] * like).reshape(-1),
    (won[:, None] * like).reshape(-1),
    beta=beta,
    alpha=alpha,
  )
  table = np.asarray(table).reshape(2, 2, 2, -1)
  count = 0
  for seed in range(seeds):
    rng = np.random.default_rng(seed)
    total, at = np.zeros(len(gaps)), 200  # a gap of 0: the reference
    for _ in range(rounds):
      y = int(rng.random() > np.exp(log_policy[0, at]))
      z = int(rng.random() > mu)
      better = rng.random() < 1 / (1 + np.exp(-gap * (z - y)))
      total += table[y, z, int(better)]
      at = int(total.argmin())
    count += gap * np.exp(log_policy[1, at]) > 1 / 8
  return count / seeds


def test_xpo_finds_the_arm_that_the_reference_hides():
  """Without the bonus most runs stay where they hardly ever see that arm."""
  without, little, enough = _stuck(0.0), _stuck(1e-3), _stuck(1e-2)
  assert without >= 0.6
  assert little <= 0.3
  assert enough == 0


def test_xpo_without_a_bonus_is_dpo_with_soft_labels():
  arrays = np.random.default_rng(0).normal(size=(5, 6))
  arrays[4] = np.linspace(0, 1, 6)
  plain = losses.dpo_soft(*arrays, beta=0.3)
  np.testing.assert_allclose(losses.xpo(*arrays, beta=0.3, alpha=0.0), plain)
  bonus = losses.xpo(*arrays, beta=0.3, alpha=0.2) - plain
  np.testing.assert_allclose(bonus, 0.2 * arrays[1], rtol=1e-12)
