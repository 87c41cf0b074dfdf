"""Losses that balance objectives of one reward model by their gradients.

Zeng et al. 2023, "On Diversified Preferences of Large Language Model
Alignment" (MORE), arXiv:2312.07401. The balance needs the gradients in the
linear score head's weights only, which follow from the head's inputs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jalign.losses._arrays import floats_with_axes
from jalign.losses.rewards.min_norm import min_norm_weights
from jalign.types import Array

# (norms of the gradients [M], losses [M]) -> what divides each gradient [M].
Normaliser = Callable[[Array, Array], Array]


class Objectives(NamedTuple):
  """What a batch says of its objectives.

  Attributes:
    terms: [B, M] losses of pairs in objectives, 0 where there is no label.
    losses: [M] mean losses, over the labelled pairs; 0 where there are none.
    gradients: [M, D] gradients of the mean losses in the head's weights.
    counts: [M] numbers of labelled pairs.
    pairs: [] number of pairs that any objective labels.
  """

  terms: Array
  losses: Array
  gradients: Array
  counts: Array
  pairs: Array


def objective_gradients(
  chosen_scores: Array,
  rejected_scores: Array,
  feature_gaps: Array,
  objective_preferences: Array,
  objective: Array,
) -> Objectives:
  """Bradley-Terry losses of one score by objective, with their head gradients.

  The score is linear in the head's inputs x, so that the gradient of an
  objective's loss in the head's weights is the mean of
  (sigmoid(s_w - s_l) - p) (x_w - x_l).

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    feature_gaps: [B, D] head's inputs of the first less the second responses.
    objective_preferences: [B, M] P(first > second) in each objective.
    objective: [B, M] above 0 where the objective labels the pair.

  Raises:
    AssertionError: shapes differ.
  """
  chosen, rejected, gaps, preference, valid = floats_with_axes(
    "B B BD BM BM",
    chosen_scores,
    rejected_scores,
    feature_gaps,
    objective_preferences,
    objective,
  )
  valid = valid > 0
  preference = jnp.where(valid, jax.lax.stop_gradient(preference), 0.0)
  any_label = jnp.any(valid, -1)
  gap = jnp.where(any_label, chosen - rejected, 0.0)[:, None]
  gaps = jnp.where(any_label[:, None], gaps, 0.0)
  terms = jax.nn.softplus(-gap) + (1 - preference) * gap
  terms = jnp.where(valid, terms, 0.0)
  counts = jnp.sum(valid, 0, dtype=gap.dtype)
  share = jnp.where(valid, 1 / jnp.maximum(counts, 1), 0.0)
  slope = share * (jax.nn.sigmoid(gap) - preference)
  gradients = jnp.einsum("bm,bd->md", slope, gaps, precision="highest")
  losses = jnp.sum(share * terms, 0)
  pairs = jnp.sum(any_label, dtype=gap.dtype)
  return Objectives(terms, losses, gradients, counts, pairs)


def norms_only(norms: Array, losses: Array) -> Array:
  """Divides gradients by their norms ("l2")."""
  del losses
  return norms


def losses_only(norms: Array, losses: Array) -> Array:
  """Divides gradients by the objectives' losses ("loss")."""
  del norms
  return losses


def losses_and_norms(norms: Array, losses: Array) -> Array:
  """Divides gradients by the losses times the norms ("loss+")."""
  return losses * norms


def as_they_are(norms: Array, losses: Array) -> Array:
  """Leaves gradients alone ("none")."""
  del losses
  return jnp.ones_like(norms)


def objective_weights(
  found: Objectives, normaliser: Normaliser = as_they_are
) -> Array:
  """[M] weights of the objectives in `more`, for a batch; constants.

  The combination of gradients with these weights doesn't raise any objective's
  loss, to first order: its inner product with each gradient is at least its
  squared norm, where gradients aren't normalised.

  Args:
    found: the batch's losses and gradients.
    normaliser: `(norms [M], losses [M]) -> [M]` divisors of the gradients;
      a divisor of 0 counts as 1.

  Returns:
    [M] weights >= 0 with sum 1; 0 for objectives without labels in the batch,
    and all 0 in a batch without labels.
  """
  found = jax.lax.stop_gradient(found)
  present = found.counts > 0
  square = lambda x: jnp.sum(x[:, None] * x[None], -1)  # no matmul: exact
  norms = jnp.sqrt(jnp.diagonal(square(found.gradients)))
  by = normaliser(norms, found.losses)
  gradients = found.gradients / jnp.where(by > 0, by, 1.0)[:, None]
  return jax.lax.stop_gradient(min_norm_weights(square(gradients), present))


def _balanced(arrays: tuple[Array, ...], normaliser: Normaliser) -> Array:
  found = objective_gradients(*arrays)
  weights = objective_weights(found, normaliser)
  # The mean over labelled pairs is the weighted sum of objectives' losses.
  factor = weights * found.pairs / jnp.maximum(found.counts, 1)
  return jnp.sum(factor * found.terms, -1)


def more(
  chosen_scores: Array,
  rejected_scores: Array,
  feature_gaps: Array,
  objective_preferences: Array,
  objective: Array,
) -> Array:
  """MORE: one reward model for several objectives, weighted by min-norm.

  l_b = N sum_m (w_m / n_m) (-p_m log sigmoid(d) - (1 - p_m) log sigmoid(-d)),
  d = s(y_w) - s(y_l),  w = argmin over the simplex of |sum_m w_m g_m|,
  g_m = gradient of objective m's mean loss in the head's weights

  The mean of l_b over the N labelled pairs is sum_m w_m L_m, where L_m is the
  mean over the n_m pairs that objective m labels; released code multiplies by
  the number of objectives. One objective gives `bradley_terry_soft`. The
  weights are those of the whole batch of all devices and are constants, as are
  the preferences and the feature gaps. An objective without a label in the
  batch has weight 0. Here gradients are taken as they are: objectives with
  small gradients get large weights.

  Zeng et al. 2023, "On Diversified Preferences of Large Language Model
  Alignment", arXiv:2312.07401. (Its momentum of the weights isn't here: a loss
  has no state.)

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    feature_gaps: [B, D] inputs of the linear score head, those of the first
      less those of the second responses; a constant.
    objective_preferences: [B, M] P(first > second) in [0, 1] in each objective;
      a constant.
    objective: [B, M] 1 where the objective labels the pair and 0 elsewhere,
      also in rows that only fill the batch, which have loss 0; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = (
    chosen_scores,
    rejected_scores,
    feature_gaps,
    objective_preferences,
    objective,
  )
  return _balanced(arrays, as_they_are)


def more_l2(
  chosen_scores: Array,
  rejected_scores: Array,
  feature_gaps: Array,
  objective_preferences: Array,
  objective: Array,
) -> Array:
  """MORE with gradients of length 1, so that only their directions count.

  l_b = N sum_m (w_m / n_m) (-p_m log sigmoid(d) - (1 - p_m) log sigmoid(-d)),
  d = s(y_w) - s(y_l),  w = argmin over the simplex of |sum_m w_m g_m / |g_m||,
  g_m = gradient of objective m's mean loss in the head's weights

  Two objectives always get the weights 1/2. All else is as in `more`.

  Zeng et al. 2023, "On Diversified Preferences of Large Language Model
  Alignment", arXiv:2312.07401.

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    feature_gaps: [B, D] as in `more`; a constant.
    objective_preferences: [B, M] as in `more`; a constant.
    objective: [B, M] as in `more`; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = (
    chosen_scores,
    rejected_scores,
    feature_gaps,
    objective_preferences,
    objective,
  )
  return _balanced(arrays, norms_only)


def more_loss(
  chosen_scores: Array,
  rejected_scores: Array,
  feature_gaps: Array,
  objective_preferences: Array,
  objective: Array,
) -> Array:
  """MORE with gradients divided by the objectives' losses.

  l_b = N sum_m (w_m / n_m) (-p_m log sigmoid(d) - (1 - p_m) log sigmoid(-d)),
  d = s(y_w) - s(y_l),  w = argmin over the simplex of |sum_m w_m g_m / L_m|,
  g_m = gradient of objective m's mean loss in the head's weights

  L_m is objective m's mean loss. All else is as in `more`.

  Zeng et al. 2023, "On Diversified Preferences of Large Language Model
  Alignment", arXiv:2312.07401.

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    feature_gaps: [B, D] as in `more`; a constant.
    objective_preferences: [B, M] as in `more`; a constant.
    objective: [B, M] as in `more`; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = (
    chosen_scores,
    rejected_scores,
    feature_gaps,
    objective_preferences,
    objective,
  )
  return _balanced(arrays, losses_only)


def more_loss_plus(
  chosen_scores: Array,
  rejected_scores: Array,
  feature_gaps: Array,
  objective_preferences: Array,
  objective: Array,
) -> Array:
  """MORE with gradients divided by the losses times the gradients' lengths.

  l_b = N sum_m (w_m / n_m) (-p_m log sigmoid(d) - (1 - p_m) log sigmoid(-d)),
  d = s(y_w) - s(y_l),
  w = argmin over the simplex of |sum_m w_m g_m / (L_m |g_m|)|,
  g_m = gradient of objective m's mean loss in the head's weights

  L_m is objective m's mean loss. All else is as in `more`.

  Zeng et al. 2023, "On Diversified Preferences of Large Language Model
  Alignment", arXiv:2312.07401.

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    feature_gaps: [B, D] as in `more`; a constant.
    objective_preferences: [B, M] as in `more`; a constant.
    objective: [B, M] as in `more`; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = (
    chosen_scores,
    rejected_scores,
    feature_gaps,
    objective_preferences,
    objective,
  )
  return _balanced(arrays, losses_and_norms)
