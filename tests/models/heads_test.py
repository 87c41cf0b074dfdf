"""Score heads: antisymmetry, and the preferences that each can express."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign.errors import UserError
from jalign.losses import general_preference_score
from jalign.models import (
  HEADS,
  general,
  last_hidden,
  objectives,
  pairwise,
  scalar,
)
from jalign.types import Sequences


def test_last_hidden_is_the_last_real_token():
  hidden = jnp.arange(24.0).reshape(2, 4, 3)
  sequences = Sequences(
    jnp.zeros((2, 4), int), jnp.zeros((2, 4), bool), jnp.array([2, 4])
  )
  np.testing.assert_array_equal(
    last_hidden(hidden, sequences), hidden[jnp.arange(2), jnp.array([1, 3])]
  )


def test_scalar_starts_indifferent_and_is_linear():
  head = scalar(3)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (5, 3))
  np.testing.assert_array_equal(head.score(params, x), np.zeros(5))
  params = {"weight": jnp.array([1.0, 0.0, -2.0]), "bias": jnp.array(0.5)}
  np.testing.assert_allclose(
    head.score(params, x), x[:, 0] - 2 * x[:, 2] + 0.5, rtol=1e-6
  )


def test_swapping_negates_the_preference():
  head = pairwise(6)
  params = head.init(jax.random.key(0))
  params["score"] = jax.random.normal(jax.random.key(3), (6,))
  a, b = jax.random.normal(jax.random.key(1), (2, 7, 6))
  np.testing.assert_array_equal(
    head.compare(params, a, b), -head.compare(params, b, a)
  )
  np.testing.assert_array_equal(head.compare(params, a, a), np.zeros(7))
  assert np.abs(head.compare(params, a, b)).min() > 1e-3


def test_embeddings_make_the_same_logits():
  head = pairwise(6, rank=2)
  params = head.init(jax.random.key(0))
  params["score"] = jax.random.normal(jax.random.key(3), (6,))
  a, b = jax.random.normal(jax.random.key(1), (2, 7, 6))
  np.testing.assert_allclose(
    general_preference_score(head.embed(params, a), head.embed(params, b)),
    head.compare(params, a, b),
    rtol=1e-5,
    atol=1e-5,
  )


def _fit(head, params, features, target, steps=300):
  """Mean squared error of the head's logits on all pairs of three items."""
  i, j = jnp.array([0, 1, 2]), jnp.array([1, 2, 0])
  loss = lambda p: jnp.mean(
    (head.compare(p, features[i], features[j]) - target) ** 2
  )
  optimizer = optax.adam(0.05)
  state = optimizer.init(params)

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  for _ in range(steps):
    params, state = step(params, state)
  return float(loss(params))


def test_rank_one_holds_a_cycle_that_scores_cannot():
  features = jnp.eye(3)
  cycle = jnp.ones(3)  # 0 > 1 > 2 > 0, each with logit 1
  skew = pairwise(3, rank=1)
  assert _fit(skew, skew.init(jax.random.key(0)), features, cycle) < 1e-4

  scores = scalar(3)
  as_pair = skew._replace(
    compare=lambda p, a, b: scores.score(p, a) - scores.score(p, b)
  )
  error = _fit(as_pair, scores.init(jax.random.key(0)), features, cycle)
  np.testing.assert_allclose(error, 1.0, atol=1e-4)  # the best is indifference


def test_objectives_are_scalar_heads_side_by_side():
  head, one = objectives(3, count=2), scalar(3)
  x = jax.random.normal(jax.random.key(1), (5, 3))
  params = head.init(jax.random.key(0))
  np.testing.assert_array_equal(head.scores(params, x), np.zeros((5, 2)))
  weight, bias = jax.random.normal(jax.random.key(2), (4, 2))[:3], [0.5, -1.0]
  params = {"weight": weight, "bias": jnp.array(bias)}
  for m in range(2):
    alone = {"weight": weight[:, m], "bias": jnp.array(bias[m])}
    np.testing.assert_allclose(
      head.scores(params, x)[:, m], one.score(alone, x), rtol=1e-6
    )


def test_a_general_head_learns_a_cycle_and_a_scalar_head_cannot():
  x = jax.random.normal(jax.random.key(4), (3, 8))
  first, second = jnp.array([0, 1, 2]), jnp.array([1, 2, 0])  # a > b > c > a

  def fitted(head, logits):
    loss = lambda p: jax.nn.softplus(-logits(p)).mean()
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(params, state):
      updates, state = optimizer.update(jax.grad(loss)(params), state)
      return optax.apply_updates(params, updates), state

    params = head.init(jax.random.key(0))
    state = optimizer.init(params)
    for _ in range(200):
      params, state = step(params, state)
    return float(loss(params))

  head = general(8, width=2)
  preference = lambda p: general_preference_score(
    head.embed(p, x[first]), head.embed(p, x[second])
  )
  assert fitted(head, preference) < 0.05
  one = scalar(8)
  gap = lambda p: one.score(p, x[first]) - one.score(p, x[second])
  assert fitted(one, gap) > 0.69  # log 2: gaps around a cycle sum to 0


def test_heads_are_listed_by_name_and_refuse_bad_sizes():
  for name, settings in {
    "scalar": {},
    "objectives": {"count": 3},
    "pairwise": {"rank": 2},
    "general": {"width": 6},
  }.items():
    HEADS[name](4, **settings).init(jax.random.key(0))
  assert len(HEADS) == 4
  for name, settings, said in (
    ("objectives", {"count": 0}, "1 or more"),
    ("objectives", {"count": 2.5}, "whole number"),
    ("pairwise", {"rank": True}, "whole number"),
    ("general", {"width": 3}, "even"),
    ("general", {"width": 0}, "2 or more"),
  ):
    with pytest.raises(UserError, match=said):
      HEADS[name](4, **settings)
