"""Losses of models that compare two responses, whose preferences may cycle."""

import math

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import as_floats, equal_floats, same_floats
from jalign.types import Array


def _cross_entropy(logit: Array, preference: Array) -> Array:
  """-p log sigmoid(z) - (1 - p) log sigmoid(-z); p is a constant."""
  flipped = 1 - jax.lax.stop_gradient(preference)
  return jax.nn.softplus(-logit) + flipped * logit


def pairwise_preference(
  logits: Array, swapped_logits: Array, preference: Array
) -> Array:
  """Preference model that reads both responses; its logits are antisymmetrised.

  l = -p log P - (1 - p) log(1 - P),
  P = sigmoid(f(y, y') - f(y', y)),  p = P(y > y')

  A response ties with itself, and P(y > y') + P(y' > y) = 1, whatever f is;
  P need not be transitive. For f(y, y') = r(y) / 2 - r(y') / 2 this is
  `bradley_terry_soft`. Gradients do not flow into the preference.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886 (its
  model reads one order of the responses; the symmetry is our addition).

  Args:
    logits: [B] f(y, y'), the model's logit with the pair in its order.
    swapped_logits: [B] f(y', y), the logit with the second response first.
    preference: [B] P(first > second) in [0, 1]; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logits, swapped, preference = same_floats(logits, swapped_logits, preference)
  return _cross_entropy(logits - swapped, preference)


def pairwise_preference_averaged(
  logits: Array, swapped_logits: Array, preference: Array
) -> Array:
  """Preference model that reads both responses; it averages both orders.

  l = -p log P - (1 - p) log(1 - P),
  P = (sigmoid(f(y, y')) + 1 - sigmoid(f(y', y))) / 2,  p = P(y > y')

  P is the mean of the probabilities that the two orders give. Where one order
  is certain of the wrong answer and the other order of the right answer, the
  loss is at most log 2 and the wrong order gets little gradient, unlike in
  `pairwise_preference`. Gradients do not flow into the preference.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886 (its
  model reads one order of the responses; the symmetry is our addition).

  Args:
    logits: [B] f(y, y'), the model's logit with the pair in its order.
    swapped_logits: [B] f(y', y), the logit with the second response first.
    preference: [B] P(first > second) in [0, 1]; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logits, swapped, preference = same_floats(logits, swapped_logits, preference)
  mean = lambda x, y: (
    jnp.logaddexp(jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(y)) - math.log(2)
  )
  preference = jax.lax.stop_gradient(preference)
  won, lost = mean(logits, -swapped), mean(-logits, swapped)
  return -preference * won - (1 - preference) * lost


def order_gap(logits: Array, swapped_logits: Array) -> Array:
  """How much a model's answer depends on the order of the two responses.

  Args:
    logits: [...] f(y, y'), the model's logit with the pair in its order.
    swapped_logits: [...] f(y', y), the logit with the second response first.

  Returns:
    [...] |P(y > y') + P(y' > y) - 1| in [0, 1], where P is the sigmoid of the
    model's logit, without antisymmetrisation.
  """
  logits, swapped = equal_floats(logits, swapped_logits)
  return jnp.abs(jax.nn.sigmoid(logits) - jax.nn.sigmoid(-swapped))


def general_preference_score(first: Array, second: Array) -> Array:
  """v^T J v', which is antisymmetric in the two embeddings v and v'.

  Args:
    first: [..., Z] embeddings v, Z even.
    second: [..., Z] embeddings v'.

  Returns:
    [...] sum_k v_2k v'_2k+1 - v_2k+1 v'_2k: the logit of P(first > second).

  Raises:
    AssertionError: shapes differ, or Z is odd.
  """
  first, second = equal_floats(first, second)
  chex.assert_is_divisible(first.shape[-1], 2)
  turned = first[..., ::2] * second[..., 1::2]
  return jnp.sum(turned - first[..., 1::2] * second[..., ::2], -1)


def general_preference(
  first_embeddings: Array, second_embeddings: Array, preference: Array
) -> Array:
  """General preference model: one embedding per response; it can fit cycles.

  l = -p log sigmoid(s) - (1 - p) log sigmoid(-s),
  s = v^T J v',  J = blocks ((0, 1), (-1, 0)),  p = P(y > y')

  The score s is antisymmetric by construction, and n responses need n passes of
  the model, not n^2. Two dimensions fit any cycle of three responses, which a
  scalar score can't. There are no scale and no temperature parameters, because
  the embeddings' lengths play that part. Gradients do not flow into the
  preference.

  Zhang et al. 2024, "General Preference Modeling with Preference
  Representations for Aligning Language Models", arXiv:2410.02197.

  Args:
    first_embeddings: [B, Z] embeddings of the first responses, Z even.
    second_embeddings: [B, Z] the same for the second responses.
    preference: [B] P(first > second) in [0, 1]; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ, or Z is odd.
  """
  first, second, preference = as_floats(
    first_embeddings, second_embeddings, preference
  )
  score = general_preference_score(first, second)
  chex.assert_equal_shape([score, preference])
  return _cross_entropy(score, preference)
