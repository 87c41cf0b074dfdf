"""Statistics of several reward models' scores, to check a data set's labels.

Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
Modeling", arXiv:2401.06080. These are functions of a whole data set or list,
not per-example losses.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, equal_floats
from jalign.types import Array


class PreferenceStrength(NamedTuple):
  """How strongly, and how unanimously, models prefer the chosen response.

  Attributes:
    mean: [B] mean over the models of the gap, the chosen less the rejected
      score; negative where the models contradict the label.
    std: [B] standard deviation of the gap over the models (population's).
  """

  mean: Array
  std: Array


def preference_strength(margins: Array) -> PreferenceStrength:
  """Mean and spread over R reward models of each pair's gap in scores.

  The mean can be `bradley_terry_margin`'s margin and the input of `relabelled`.

  Args:
    margins: [R, B] score of the chosen less score of the rejected response,
      under each of R models.

  Returns:
    PreferenceStrength of [B] arrays.
  """
  chex.assert_rank(margins, 2)
  (margins,) = equal_floats(margins)
  return PreferenceStrength(jnp.mean(margins, 0), jnp.std(margins, 0))


def relabelled(
  mean: Array,
  *,
  flipped: float = 0.2,
  ambiguous: float = 0.2,
  label_smoothing: float = 0.1,
) -> Array:
  """Preferences for `bradley_terry_soft`, from a data set's mean gaps.

  The labels of pairs below the `flipped` quantile are flipped; the next
  `ambiguous` share of pairs gets soft labels; all other pairs keep their
  labels. Pairs equal to a threshold count as above it. The default shares are
  the paper's, chosen for its data: choose yours by looking at your data. The
  default of label_smoothing is our choice.

  Args:
    mean: [B] mean gaps of all pairs of the data set.
    flipped: share of pairs whose label is flipped, in [0, 1].
    ambiguous: share of pairs that get soft labels, in [0, 1].
    label_smoothing: probability of the rejected response in a soft label, in
      [0, 0.5].

  Returns:
    [B] P(chosen > rejected): 0, 1 - label_smoothing or 1.

  Raises:
    UserError: a share is out of range.
  """
  check_range("flipped", flipped, 0, 1, ends="[]")
  check_range("ambiguous", ambiguous, 0, 1, ends="[]")
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
  (mean,) = equal_floats(mean)
  low = jnp.quantile(mean, flipped)
  high = jnp.quantile(mean, jnp.minimum(flipped + ambiguous, 1.0))
  smoothed = jnp.where(mean < high, 1 - label_smoothing, jnp.ones_like(mean))
  return jnp.where(mean < low, 0.0, smoothed)


def score_spread(scores: Array) -> Array:
  """MetaRM's objective: how well a reward model separates K responses.

  J = 2 / K^2 sum_{i<j} sigmoid(|s_i - s_j|). MetaRM *raises* J on responses of
  a policy that has moved, before it lowers the reward model's loss.

  Args:
    scores: [B, K] scores of K responses to one prompt.

  Returns:
    [B] values, from (K - 1) / (2 K) for equal scores up to (K - 1) / K.
  """
  chex.assert_rank(scores, 2)
  (scores,) = equal_floats(scores)
  gaps = jnp.abs(scores[:, :, None] - scores[:, None, :])
  apart = jnp.triu(jax.nn.sigmoid(gaps), 1)
  return 2 * jnp.sum(apart, (1, 2)) / scores.shape[1] ** 2
