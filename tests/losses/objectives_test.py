"""Reward models of several objectives, and MORE's balance of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.losses.rewards import more as forms
from tests.oracles.more import min_norm

RNG = np.random.default_rng(0)
MORE = pytest.mark.parametrize(
  "name", ["more", "more_l2", "more_loss", "more_loss_plus"]
)


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def close(x, y, tolerance=1e-12):
  np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def _arrays(rows=24, size=5, objectives=3, labelled=0.6):
  """Scores from a linear head, its inputs' gaps, and labels of objectives."""
  inputs = RNG.normal(size=(2, rows, size))
  head = RNG.normal(size=size)
  preference = RNG.uniform(size=(rows, objectives))
  valid = RNG.uniform(size=(rows, objectives)) < labelled
  chosen, rejected = jnp.asarray(inputs @ head)
  gaps = jnp.asarray(inputs[0] - inputs[1])
  return chosen, rejected, gaps, jnp.asarray(preference), jnp.asarray(valid)


def test_the_shortest_combination_of_two_vectors():
  first, second = jnp.array([1.0, 2.0]), jnp.array([2.0, -0.5])
  close(losses.min_norm_of_two(first, second), 0.448276, 1e-6)
  close(losses.min_norm_of_two(second, first), 1 - 0.448276, 1e-6)
  # One vector in the way of the other: all weight is on the shorter vector.
  close(losses.min_norm_of_two(first, 3 * first), 1)
  close(losses.min_norm_of_two(first, first), 0.5)
  for _ in range(20):
    both = jnp.asarray(RNG.normal(size=(2, 4)) + RNG.normal(size=4))
    weights = losses.min_norm_weights(both @ both.T, jnp.ones(2, bool))
    close(weights[0], losses.min_norm_of_two(*both), 1e-10)
    close(weights.sum(), 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_frank_wolfe_finds_the_best_point_of_any_face(count):
  solve = jax.jit(losses.min_norm_weights)
  for shift in (0.0, 0.5, 2.0):  # the optimum is inside, on a face, a corner
    vectors = RNG.normal(size=(count, 10)) + shift
    weights = solve(vectors @ vectors.T, jnp.ones(count, bool))
    close(weights, min_norm(vectors), 1e-9)


def test_vectors_that_are_absent_get_no_weight():
  vectors = np.concatenate([np.zeros((1, 4)), RNG.normal(size=(3, 4))])
  present = jnp.array([False, True, False, True])
  weights = losses.min_norm_weights(vectors @ vectors.T, present)
  close(weights[jnp.array([0, 2])], 0)
  close(weights[1], losses.min_norm_of_two(*jnp.asarray(vectors[1::2])))
  np.testing.assert_array_equal(
    losses.min_norm_weights(vectors @ vectors.T, jnp.zeros(4, bool)), 0
  )


@MORE
def test_one_objective_is_bradley_terry(name):
  chosen, rejected, gaps, preference, _ = _arrays(objectives=1)
  valid = jnp.ones((24, 1), bool)
  close(
    getattr(losses, name)(chosen, rejected, gaps, preference, valid),
    losses.bradley_terry_soft(chosen, rejected, preference[:, 0]),
  )


@MORE
def test_the_mean_over_pairs_is_the_weighted_sum_of_objectives_losses(name):
  """Rows without a label, which fill the batch, count for nothing."""
  arrays = _arrays()
  valid = arrays[-1].at[-4:].set(False)
  arrays = (*arrays[:2], arrays[2].at[-4:].set(jnp.nan), arrays[3], valid)
  found = losses.objective_gradients(*arrays)
  divide = {
    "more": forms.as_they_are,
    "more_l2": forms.norms_only,
    "more_loss": forms.losses_only,
    "more_loss_plus": forms.losses_and_norms,
  }[name]
  weights = losses.objective_weights(found, divide)
  loss = getattr(losses, name)(*arrays)
  live = np.asarray(valid).any(1)
  np.testing.assert_array_equal(np.asarray(loss)[~live], 0)
  close(loss[live].mean(), weights @ found.losses)


def test_gradients_are_those_of_the_head():
  """They equal the derivatives of each objective's mean loss in the head."""
  rows, size = 12, 4
  x = jnp.asarray(RNG.normal(size=(2, rows, size)))
  preference = jnp.asarray(RNG.uniform(size=(rows, 3)))
  valid = jnp.asarray(RNG.uniform(size=(rows, 3)) < 0.7)

  def mean_losses(head):
    gap = ((x[0] - x[1]) @ head)[:, None]
    terms = jnp.logaddexp(0, -gap) + (1 - preference) * gap
    return jnp.where(valid, terms, 0).sum(0) / valid.sum(0)

  head = jnp.asarray(RNG.normal(size=size))
  found = losses.objective_gradients(
    x[0] @ head, x[1] @ head, x[0] - x[1], preference, valid
  )
  close(found.losses, mean_losses(head))
  close(found.gradients, jax.jacobian(mean_losses)(head))
  assert found.counts.tolist() == valid.sum(0).tolist()


def test_a_step_lowers_every_objective():
  """Each inner product with the combination is at least its squared norm."""
  for _ in range(10):
    found = losses.objective_gradients(*_arrays(objectives=4))
    weights = losses.objective_weights(found)
    combined = weights @ found.gradients
    products = found.gradients @ combined
    assert (products >= combined @ combined - 1e-12).all()
    norms = jnp.linalg.norm(found.gradients, axis=-1)
    assert jnp.linalg.norm(combined) <= norms.min() + 1e-12


def test_lengths_and_losses_count_or_not():
  """With gradients of length 1, two objectives have equal weights."""
  arrays = _arrays(objectives=2, labelled=0.8)
  found = losses.objective_gradients(*arrays)
  even = losses.objective_weights(found, forms.norms_only)
  close(even, 0.5)
  uneven = losses.objective_weights(found)
  assert abs(uneven[0] - 0.5) > 1e-3
  scaled = found._replace(losses=found.losses * jnp.array([1.0, 3.0]))
  by_loss = losses.objective_weights(scaled, forms.losses_only)
  by_both = losses.objective_weights(scaled, forms.losses_and_norms)
  g = found.gradients
  close(
    by_loss[0],
    losses.min_norm_of_two(g[0] / scaled.losses[0], g[1] / scaled.losses[1]),
    1e-10,
  )
  norms = jnp.linalg.norm(g, axis=-1, keepdims=True)
  divided = g / norms / scaled.losses[:, None]
  close(by_both[0], losses.min_norm_of_two(*divided), 1e-10)
  # The objective with the larger loss has the shorter vector, and most weight.
  assert by_both[np.argmax(scaled.losses)] > 0.5


def test_an_objective_that_is_absent_changes_nothing():
  arrays = _arrays()
  valid = arrays[-1].at[:, 1].set(False)
  two = jnp.array([0, 2])
  close(
    losses.more(*arrays[:-1], valid),
    losses.more(*arrays[:3], arrays[3][:, two], valid[:, two]),
  )


def test_labels_of_one_objective_each():
  """Two objectives with equal gradients share the weight: a pooled loss."""
  chosen, rejected, gaps, _, _ = _arrays(rows=2)
  group = jnp.eye(2, dtype=bool)
  same = lambda x: jnp.stack([x[0], x[0]])
  loss = losses.more(
    same(chosen), same(rejected), same(gaps), jnp.ones((2, 2)), group
  )
  close(loss, losses.bradley_terry(same(chosen), same(rejected)))


def test_several_scores_at_known_values():
  scores = jnp.array([[1.2, -3.0, 7.0]]), jnp.array([[0.5, 4.0, 7.0]])
  preference = jnp.array([[1.0, jnp.nan, 0.3]])
  loss = losses.objective_bradley_terry(
    *scores, preference, jnp.array([[True, False, False]])
  )
  close(loss, 0.403186, 1e-5)
  loss = losses.objective_bradley_terry(
    *scores, preference, jnp.array([[True, False, True]])
  )
  close(loss, (0.403186 + np.log(2)) / 2, 1e-5)
  none = jnp.zeros((1, 3), bool)
  assert losses.objective_bradley_terry(*scores, preference, none) == 0
  slope = jax.grad(
    lambda s: losses.objective_bradley_terry(
      s, scores[1], preference, jnp.array([[True, False, True]])
    )[0]
  )(scores[0])
  close(slope[0, 1], 0)
  assert slope[0, 0] < 0 < slope[0, 2]  # towards P = 1 and towards P = .3


def test_one_objective_is_the_soft_loss():
  chosen, rejected, _, preference, _ = _arrays(objectives=1)
  close(
    losses.objective_bradley_terry(
      chosen[:, None], rejected[:, None], preference, jnp.ones((24, 1), bool)
    ),
    losses.bradley_terry_soft(chosen, rejected, preference[:, 0]),
  )


def test_ratings_at_known_values():
  scores, there = jnp.array([[1.0, 2.0]]), jnp.array([[True, True]])
  close(losses.rating_regression(scores, jnp.array([[3.0, 2.5]]), there), 2.125)
  at = lambda r: losses.rating_logistic(scores, jnp.array([r]), there)
  close(at([1.0, 0.0]), (np.log1p(np.exp(-1)) + np.log1p(np.exp(2))) / 2)
  # A probability is matched by its logit.
  p = 1 / (1 + np.exp(-np.array([1.0, 2.0])))
  slope = jax.grad(
    lambda s: losses.rating_logistic(s, jnp.asarray(p)[None], there)[0]
  )(scores)
  close(slope, 0)
  half = jnp.array([[True, False]])
  ratings = jnp.array([[3.0, jnp.nan]])
  close(losses.rating_regression(scores, ratings, half), 4)


def test_good_and_bad_by_themselves():
  scores, good = jnp.array([1.2, 0.5]), jnp.array([True, False])
  loss = losses.binary_discrimination(scores, good)
  close(loss, [np.log1p(np.exp(-1.2)), np.log1p(np.exp(0.5))])
  labels = losses.rating_logistic(
    scores[:, None], jnp.array([[1.0], [0.0]]), jnp.ones((2, 1), bool)
  )
  close(loss, labels)
  close(losses.binary_discrimination(0 * scores, good), np.log(2))
  # Not a comparison: a common shift changes the sum, unlike Bradley-Terry's.
  assert abs(losses.binary_discrimination(scores + 1, good) - loss).sum() > 0.1
  slope = jax.grad(lambda s: losses.binary_discrimination(s, good).sum())
  assert slope(scores)[0] < 0 < slope(scores)[1]
