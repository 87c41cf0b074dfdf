"""Known values and identities of losses that train reward models on pairs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.losses import advantages
from jalign.losses.rewards import verdicts

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def close(x, y, tolerance=1e-12):
  np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape))


def _one(*numbers):
  return [jnp.array([x]) for x in numbers]


def test_golden_numbers():
  close(losses.bradley_terry(*_one(1.2, 0.5)), 0.403186, 1e-5)
  close(losses.bradley_terry_margin(*_one(1.2, 0.5, 0.3)), 0.513015, 1e-5)
  cost = losses.cost_model(*_one(1.2, 0.5), *_one(True, False))
  close(cost, 1.640546, 1e-5)
  close(losses.score_spread(jnp.array([[1, 0.2, -0.5]])), 0.483497, 1e-5)
  # P = (.7 + 1 - .4) / 2 = .65
  logit = lambda p: math.log(p / (1 - p))
  loss = losses.pairwise_preference_averaged(*_one(logit(0.7), logit(0.4), 1.0))
  close(loss, -math.log(0.65))


def test_only_the_gap_counts_until_scores_are_centred():
  chosen, rejected = normal(2, 9)
  close(
    losses.bradley_terry(chosen + 7, rejected + 7),
    losses.bradley_terry(chosen, rejected),
  )
  close(losses.bradley_terry(chosen, chosen), math.log(2))
  total = lambda c, r: losses.bradley_terry(c, r).sum()
  up, down = jax.grad(total, (0, 1))(chosen, rejected)
  close(up, -jax.nn.sigmoid(rejected - chosen))
  close(up + down, 0)
  centred = lambda shift: losses.bradley_terry(
    chosen + shift, rejected + shift, centring=0.5
  )
  lowest = -(chosen + rejected) / 2
  close(jax.grad(lambda s: centred(s).sum())(lowest), 0)
  assert (centred(lowest) < centred(lowest + 0.1)).all()


def test_margins_and_soft_labels():
  chosen, rejected, margin = normal(3, 9)
  close(
    losses.bradley_terry_margin(chosen, rejected, 0 * margin),
    losses.bradley_terry(chosen, rejected),
  )
  at = losses.bradley_terry_margin(rejected + margin, rejected, margin)
  close(at, math.log(2))
  more = losses.bradley_terry_margin(chosen, rejected, margin + 0.1)
  assert (more > losses.bradley_terry_margin(chosen, rejected, margin)).all()
  # With smoothing of 1/2 the loss is even in the gap.
  even = lambda c, r: losses.bradley_terry(c, r, label_smoothing=0.5)
  close(even(chosen, rejected), even(rejected, chosen))
  # Smoothing is a soft label.
  close(
    losses.bradley_terry(chosen, rejected, label_smoothing=0.2),
    losses.bradley_terry_soft(chosen, rejected, 0 * chosen + 0.8),
  )
  # The strength of preference of models that are undecided is no margin.
  gaps = jnp.stack([margin, -margin])
  strength = losses.preference_strength(gaps)
  close(strength.mean, 0)
  close(strength.std, jnp.abs(margin))


def test_costs_have_signs():
  up, down = normal(2, 9)
  unsafe, safe = jnp.ones(9, bool), jnp.zeros(9, bool)
  zero = jnp.zeros(9)
  close(losses.cost_model(zero, zero, unsafe, safe), 3 * math.log(2))
  rest = losses.cost_model(up, down, unsafe, safe) - losses.bradley_terry(
    up, down
  )
  close(rest, jax.nn.softplus(-up) + jax.nn.softplus(down))
  # Two costs that the pair doesn't separate still learn their signs.
  slope = jax.grad(lambda c, u: losses.cost_model(c, c, u, u).sum())
  assert (slope(zero, unsafe) < 0).all() and (slope(zero, safe) > 0).all()


def test_preferences_need_no_order():
  f, swapped, p = normal(9), normal(9), jnp.asarray(RNG.uniform(size=9))
  for loss in (
    losses.pairwise_preference,
    losses.pairwise_preference_averaged,
  ):
    close(loss(f, f, p), math.log(2))  # a response ties with itself
    close(loss(f, swapped, p), loss(swapped, f, 1 - p))
  scores = normal(2, 9)
  close(
    losses.pairwise_preference(
      (scores[0] - scores[1]) / 2, (scores[1] - scores[0]) / 2, p
    ),
    losses.bradley_terry_soft(*scores, p),
  )


def test_a_cycle_has_embeddings_but_no_scores():
  """Two dimensions fit a cycle of three; scores say 1/2 at best."""
  p = 0.8
  first, second = jnp.array([0, 1, 2]), jnp.array([1, 2, 0])
  wins = jnp.full(3, p)

  def lowest(loss, x):
    slope = jax.jit(jax.grad(lambda x: loss(x).sum()))
    for _ in range(3000):
      x = x - 0.3 * slope(x)
    return loss(x).mean()

  cycle = lowest(
    lambda x: losses.general_preference(x[first], x[second], wins), normal(3, 2)
  )
  scalar = lowest(
    lambda x: losses.bradley_terry_soft(x[first], x[second], wins), normal(3)
  )
  close(cycle, -p * math.log(p) - (1 - p) * math.log(1 - p), 1e-6)
  close(scalar, math.log(2), 1e-9)


def test_labels_are_flipped_and_softened_by_shares():
  mean = jnp.asarray(RNG.permutation(100) / 10 - 2.0)
  labels = losses.relabelled(mean, label_smoothing=0.3)
  lowest = jnp.argsort(mean)
  close(labels[lowest[:20]], 0)
  close(labels[lowest[20:40]], 0.7)
  close(labels[lowest[40:]], 1)


def test_a_verdicts_probability():
  p = jnp.array([0.3, 0.02])  # p(A), of p(A) + p(B) = .4 and .1
  other = jnp.array([0.1, 0.08])
  close(verdicts.verdict_probability(jnp.log(p), jnp.log(other)), [0.75, 0.2])
  swapped = verdicts.verdict_probability(jnp.log(other), jnp.log(p))
  close(swapped, [0.25, 0.8])
  # A judge that ignores the order has no order gap.
  close(losses.order_gap(jnp.log(p / other), jnp.log(other / p)), 0)


def test_rewards_of_verdicts_and_their_advantages():
  labels = jnp.array([[0], [1]])
  given = jnp.array([[0, 1, -1, 1], [1, 1, 0, 1]])
  rewards = verdicts.verdict_rewards(given, labels)
  close(rewards, [[1, -1, -1, -1], [1, 1, -1, 1]])
  # No verdict is wrong even where a label is missing.
  close(verdicts.verdict_rewards(jnp.array([-1]), jnp.array([-1])), -1)
  # The deviation there has K - 1 = 3 in the denominator.
  groups = math.sqrt(4 / 3) * advantages.group_advantages(
    rewards, rewards == rewards
  )
  close(groups[0], [3**0.5, *[-(3**-0.5)] * 3], 1e-5)
  close(groups[1], [3**-0.5, 3**-0.5, -(3**0.5), 3**-0.5], 1e-5)


def test_elo_per_nat():
  close(verdicts.elo(1.0), 173.7177928, 1e-9)
  gap = jnp.array([0.0, 0.5, -2.0])
  close(1 / (1 + 10 ** (-verdicts.elo(gap) / 400)), jax.nn.sigmoid(gap))
