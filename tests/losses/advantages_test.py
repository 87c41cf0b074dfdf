"""Advantages, reward transforms and KL estimators equal loops and sums."""

import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.losses import advantages, kl, reward_transforms
from tests.losses.identities_test import close, few

fraction = st.floats(0, 1)
seeds = st.integers(0, 99)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


# Compiled once for all examples.
@jax.jit
def gae(rewards, values, mask, discount, lam):
  return advantages.gae(rewards, values, mask, discount=discount, lam=lam)


@jax.jit
def to_go(rewards, mask, discount):
  return advantages.reward_to_go(rewards, mask, discount=discount)


def draw(seed, shape=(3, 7)):
  """Rewards, values and a mask that has gaps, and a row without tokens."""
  rng = np.random.default_rng(seed)
  mask = rng.uniform(size=shape) < 0.7
  mask[0] = False
  return rng.normal(size=shape), rng.normal(size=shape), mask


def scattered(mask, rows):
  """[B, T] with each row's values at the places of its scored tokens."""
  array = np.zeros(mask.shape)
  for b, values in enumerate(rows):
    array[b, mask[b]] = values
  return array


def errors(r, v, discount):
  """One-step TD errors of a row of scored tokens."""
  return r + discount * np.append(v[1:], 0) - v


@few
@hypothesis.given(seed=seeds, discount=fraction, lam=fraction)
def test_gae(seed, discount, lam):
  rewards, values, mask = draw(seed)
  expected = []
  for r, v, scored in zip(rewards, values, mask):
    d = errors(r[scored], v[scored], discount)
    expected.append(
      [
        sum((discount * lam) ** i * d[t + i] for i in range(len(d) - t))
        for t in range(len(d))
      ]
    )
  junk = np.where(mask, 0, np.nan)
  estimate = gae(rewards + junk, values + junk, mask, discount, lam)
  close(estimate, scattered(mask, expected))


@few
@hypothesis.given(seed=seeds, discount=fraction)
def test_ends_of_gae(seed, discount):
  rewards, values, mask = map(jnp.array, draw(seed))
  returns = to_go(rewards, mask, discount)
  estimate = gae(rewards, values, mask, discount, 1.0)
  close(estimate, jnp.where(mask, returns - values, 0))
  rows = [
    errors(np.array(r)[m], np.array(v)[m], discount)
    for r, v, m in zip(rewards, values, np.array(mask))
  ]
  estimate = gae(rewards, values, mask, discount, 0.0)
  close(estimate, scattered(np.array(mask), rows))
  summed = to_go(rewards, mask, 1.0)
  total = jnp.where(mask, rewards, 0).sum(-1)
  for row, m, expected in zip(summed, mask, total):
    if m.any():
      close(row[jnp.argmax(m)], expected)


@few
@hypothesis.given(seed=seeds, beta=fraction)
def test_token_rewards_sum_to_the_penalised_reward(seed, beta):
  logps, ref_logps, mask = map(jnp.array, draw(seed))
  total = jnp.array([5.0, 2.0, -1.0])
  per_token = advantages.token_rewards(logps, ref_logps, total, mask, beta=beta)
  ratio = jnp.where(mask, logps - ref_logps, 0).sum(-1)
  close(per_token.sum(-1)[1:], (total - beta * ratio)[1:])
  close(per_token[0], 0)  # no token, no reward
  close(jnp.where(mask, 0, per_token), 0)
  alone = advantages.token_rewards(logps, logps, total, mask, beta=beta)
  for b in (1, 2):  # only the last scored token has the reward
    assert np.flatnonzero(alone[b]).tolist() == [np.flatnonzero(mask[b])[-1]]


def test_groups():
  rewards = jnp.array([[1.0, 2, 6, 99], [4, 4, 4, 4], [7, 0, 0, 0]])
  valid = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
  centred = advantages.group_centered(rewards, valid)
  close(centred, [[-2, -1, 3, 0], [0] * 4, [0] * 4])
  scaled = advantages.group_advantages(rewards, valid)
  close(scaled, centred / (math.sqrt(7) + 1e-6))  # 14 / (k - 1)
  # equal rewards don't lead to a division by zero, and have no gradient
  slope = jax.grad(lambda r: advantages.group_advantages(r, valid).sum())
  close(slope(rewards), 0)
  close(
    advantages.greedy_baseline_advantages(rewards[0], rewards[1]),
    [-3, -2, 2, 95],
  )


@few
@hypothesis.given(seed=seeds, scale=st.floats(0.1, 10), shift=st.floats(-9, 9))
def test_whitening(seed, scale, shift):
  x, _, mask = map(jnp.array, draw(seed))
  values = reward_transforms.whiten(x, mask)
  scored = values[mask]
  close(scored.mean(), 0)
  close(scored.std(), 1, 1e-6)
  close(jnp.where(mask, 0, values), 0)
  moved = reward_transforms.whiten(scale * x + shift, mask)
  close(moved, values, 1e-5)
  close(reward_transforms.whiten(0 * x + 3, mask), 0)
  close(reward_transforms.whiten(x, ~mask & mask), 0)


def test_ranges():
  x = jnp.ones((1, 1))
  for key in ("discount", "lam"):
    with pytest.raises(UserError, match=f"^{key} must be in"):
      advantages.gae(x, x, x > 0, **{key: 1.5})
  with pytest.raises(UserError, match="^limit must be in"):
    reward_transforms.clip(x, limit=0)
  close(
    reward_transforms.clip(jnp.array([-3.0, 0.5, 30]), limit=2), [-2, 0.5, 2]
  )


def test_transformed_rewards_add_up_to_the_posterior():
  """The posterior is the optimum of KL-regularised RL with beta = 1."""
  both = jnp.array([[5.0, -4], [1, 1], [-1, 2], [-4, 5]])
  policy = lambda reward: jax.nn.softmax(reward)  # the reference is uniform
  good = jax.nn.sigmoid(both).prod(-1)
  summed, posterior = (
    policy(both.sum(-1)),
    policy(reward_transforms.all_good(both, 0.0)),
  )
  close(summed, [0.1749, 0.4754, 0.1749, 0.1749], 1e-4)
  close(posterior, [0.0221, 0.6622, 0.2935, 0.0221], 2e-3)
  close(posterior, good / good.sum())
  for probabilities, expected in (
    (jnp.full(4, 0.25), 0.2018),
    (summed, 0.3017),
    (posterior, 0.4242),
  ):
    close(probabilities @ good, expected, 1e-4)
  # each reward is taken less its reference's reward
  centred = reward_transforms.log_sigmoid_centered(both, jnp.array([1.0, 2.0]))
  close(centred[1], [math.log(0.5), -math.log1p(math.exp(1))])


def test_kl_estimators():
  """Expected values over six arms, and expected gradients."""
  rng = np.random.default_rng(0)
  z, ref = jnp.array(rng.normal(size=6)), jnp.array(rng.normal(size=6))
  log_ref = jax.nn.log_softmax(ref)

  def forward(z):
    logps = jax.nn.log_softmax(z)
    return (jnp.exp(logps) * (logps - log_ref)).sum()

  def backward(z):
    return (jnp.exp(log_ref) * (log_ref - jax.nn.log_softmax(z))).sum()

  arms = jnp.exp(jax.nn.log_softmax(z))  # samples held fixed
  mean = lambda k, z: (arms * k(jax.nn.log_softmax(z), log_ref)).sum()
  close(mean(kl.k1, z), forward(z), 1e-12)
  close(mean(kl.k3, z), forward(z), 1e-12)
  assert abs(mean(kl.k2, z) - forward(z)) > 1e-3
  slope = lambda k: jax.grad(lambda z: mean(k, z))(z)
  close(slope(kl.k1), 0, 1e-12)
  close(slope(kl.k2), jax.grad(forward)(z), 1e-12)
  close(slope(kl.k3), jax.grad(backward)(z), 1e-12)
  assert (kl.k3(jax.nn.log_softmax(z), log_ref) > 0).all()
  assert (kl.k1(jax.nn.log_softmax(z), log_ref) < 0).any()
  for k in (kl.k1, kl.k2, kl.k3):
    assert jax.grad(k, 1)(-1.0, -2.0) == 0
    assert jnp.isfinite(k(jnp.float32(-1e4), jnp.float32(0)))
    assert jnp.isfinite(jax.grad(k)(jnp.float32(-1e4), jnp.float32(0)))
    close(k(jnp.array(-1.5), jnp.array(-1.5)), 0)


def test_they_are_where_the_losses_are():
  assert losses.kl is kl and losses.advantages is advantages
  assert losses.reward_transforms is reward_transforms
