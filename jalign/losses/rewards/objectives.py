"""Losses of models with several scores per response, one for each objective.

An objective is whatever a label belongs to: helpfulness, a rater group's taste,
an attribute on a scale. Where an objective has no label, its arrays may hold
anything, even NaN, and get no gradient.
"""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import flags, same_floats, zero_where_invalid
from jalign.types import Array


def _mean_over_labelled(terms: Array, labelled: Array) -> Array:
  """[B] means of [B, M] terms over labelled objectives; 0 if there are none."""
  total = jnp.sum(jnp.where(labelled, terms, 0.0), -1)
  return total / jnp.maximum(jnp.sum(labelled, -1, dtype=total.dtype), 1)


def objective_bradley_terry(
  chosen_objective_scores: Array,
  rejected_objective_scores: Array,
  objective_preferences: Array,
  objective: Array,
) -> Array:
  """Bradley-Terry loss of several scores, each with preferences of its own.

  l = mean over m of -p_m log sigmoid(d_m) - (1 - p_m) log sigmoid(-d_m),
  d_m = s_m(y_w) - s_m(y_l),  s = score,  p_m = P(y_w > y_l) in objective m

  The mean is over the objectives that label the pair, so that a pair with many
  labels weighs as much as a pair with one; a pair without labels has loss 0.
  Objectives may contradict each other: each has its score. With one objective
  this is `bradley_terry_soft`. Gradients do not flow into the preferences.

  Unpublished in this form: a model with several heads, of which each is trained
  by Bradley and Terry's likelihood.

  Args:
    chosen_objective_scores: [B, M] scores of the first responses.
    rejected_objective_scores: [B, M] the same for the second responses.
    objective_preferences: [B, M] P(first > second) in [0, 1]; a constant.
    objective: [B, M] 1 where the objective labels the pair and 0 elsewhere; a
      constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(chosen_objective_scores, 2)
  labelled, chosen, rejected, preference = zero_where_invalid(
    jnp.asarray(objective) > 0,
    chosen_objective_scores,
    rejected_objective_scores,
    objective_preferences,
  )
  gap = chosen - rejected
  flipped = 1 - jax.lax.stop_gradient(preference)
  return _mean_over_labelled(jax.nn.softplus(-gap) + flipped * gap, labelled)


def rating_regression(
  objective_scores: Array, ratings: Array, rated: Array
) -> Array:
  """Squared error of scores to ratings of single responses.

  l = mean over m of (s_m - r_m)^2,  s = score,  r = rating

  The mean is over the objectives that are rated; a response without ratings has
  loss 0. Bring ratings to a common scale first: an objective rated from 0 to
  100 outweighs one rated from 0 to 1. Gradients do not flow into the ratings.

  Wang et al. 2024, "Interpretable Preferences via Multi-Objective Reward
  Modeling and Mixture-of-Experts", arXiv:2406.12845 (its first stage; the mean
  in place of a sum is our choice).

  Args:
    objective_scores: [B, M] scores of the responses.
    ratings: [B, M] their ratings; a constant.
    rated: [B, M] bool, whether there is a rating.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(objective_scores, 2)
  rated, scores, ratings = zero_where_invalid(rated, objective_scores, ratings)
  error = scores - jax.lax.stop_gradient(ratings)
  return _mean_over_labelled(jnp.square(error), rated)


def rating_logistic(
  objective_scores: Array, ratings: Array, rated: Array
) -> Array:
  """Cross-entropy of scores to labels in [0, 1] of single responses.

  l = mean over m of -r_m log sigmoid(s_m) - (1 - r_m) log sigmoid(-s_m),
  s = score,  r = label

  The score is the logit of P(good). With labels 0 and 1 this is binary
  discrimination; a label between them is a probability. A response without
  labels has loss 0. Gradients do not flow into the labels.

  Askell et al. 2021, "A General Language Assistant as a Laboratory for
  Alignment", arXiv:2112.00861 (labels 0 and 1, one objective).

  Args:
    objective_scores: [B, M] scores of the responses.
    ratings: [B, M] labels in [0, 1]; a constant.
    rated: [B, M] bool, whether there is a label.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(objective_scores, 2)
  rated, scores, ratings = zero_where_invalid(rated, objective_scores, ratings)
  bad = 1 - jax.lax.stop_gradient(ratings)
  return _mean_over_labelled(jax.nn.softplus(-scores) + bad * scores, rated)


def binary_discrimination(response_scores: Array, desirable: Array) -> Array:
  """Classifies single responses as good or bad.

  l = -log sigmoid(s) if y is good, -log sigmoid(-s) if not,  s = score

  The score is the logit of P(good). Unlike `bradley_terry`, the loss compares
  nothing: a shift of all scores changes it, and both responses to a hard prompt
  may be bad. A pair is two examples, one of them good.

  Askell et al. 2021, "A General Language Assistant as a Laboratory for
  Alignment", arXiv:2112.00861.

  Args:
    response_scores: [B] scores of the responses.
    desirable: [B] bool, whether the response is good.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  (scores,) = same_floats(response_scores)
  (desirable,) = flags(scores, desirable)
  return jax.nn.softplus(jnp.where(desirable, -scores, scores))
