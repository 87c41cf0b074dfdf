"""What several reward models say about a data set's labels.

Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
Modeling", arXiv:2401.06080. These are functions of a whole data set or list,
not losses on examples.
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
    mean: [B] mean gap; negative where the models contradict the label.
    std: [B] standard deviation of the population of models.
  """

  mean: Array
  std: Array


def preference_strength(margins: Array) -> PreferenceStrength:
  """Mean and spread of the gaps that R reward models see in each pair.

  The mean serves as `bradley_terry_margin`'s margin, and for `relabelled`.

  Args:
    margins: [R, B] score of the chosen less that of the rejected response,
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

  The pairs below the `flipped` quantile have their label turned; the
  `ambiguous` share above them gets soft labels; the rest keeps its own. Pairs
  that tie at a threshold count as above it. The shares are the paper's, on its
  data: look at yours. The softness is our choice.

  Args:
    mean: [B] mean gaps over the whole data set.
    flipped: share whose label is turned, in [0, 1].
    ambiguous: share of soft labels, in [0, 1].
    label_smoothing: what a soft label leaves to the other side, in [0, 0.5].

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
  """MetaRM's objective: how well a model tells K responses apart.

  J = 2 / K^2 sum_{i<j} sigmoid(|s_i - s_j|), to be *raised* on responses of a
  policy that has moved, before the reward model's loss is lowered.

  Args:
    scores: [B, K] scores of K responses to one prompt.

  Returns:
    [B] values from (K - 1) / (2 K), all equal, up to (K - 1) / K.
  """
  chex.assert_rank(scores, 2)
  (scores,) = equal_floats(scores)
  gaps = jnp.abs(scores[:, :, None] - scores[:, None, :])
  apart = jnp.triu(jax.nn.sigmoid(gaps), 1)
  return 2 * jnp.sum(apart, (1, 2)) / scores.shape[1] ** 2
