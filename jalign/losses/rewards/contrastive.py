"""Contrastive losses on a reward model's features, beside its ranking loss.

Two views of a text are features from two passes that differ in their noise:
dropout, or another prefix. Without any noise the two views are equal and there
is nothing to learn but a uniform spread.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  as_floats,
  check_range,
  floats_with_axes,
)
from jalign.types import Array


def _unit(x: Array) -> Array:
  """Vectors of length 1; 0 stays 0."""
  square = jnp.sum(jnp.square(x), -1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def _products(x: Array, y: Array) -> Array:
  """[N, D], [M, D] -> [N, M] inner products."""
  return jnp.einsum("nd,md->nm", x, y, precision="highest")


def _present(valid: Array, *arrays: Array) -> tuple[Array, ...]:
  """The arrays, with 0 in rows that aren't valid, whatever they hold."""
  return tuple(jnp.where(valid[:, None], x, 0.0) for x in arrays)


def view_matching(
  features: Array,
  views: Array,
  valid: Array,
  *,
  temperature: float = 0.05,
) -> Array:
  """SimCSE's loss: an element's second view, among those of all elements.

  l_i = -log(exp(cos(h_i, h'_i) / t) / sum_j exp(cos(h_i, h'_j) / t))

  Args:
    features: [N, D] first views h.
    views: [N, D] second views h'.
    valid: [N] bool, False for elements that only fill the batch.
    temperature: t, > 0.

  Returns:
    [N] losses; 0 for a single element, and for those that only fill.

  Raises:
    AssertionError: shapes differ.
    UserError: the temperature isn't positive.
  """
  check_range("temperature", temperature, 0)
  features, views, valid = floats_with_axes(
    "ND ND N", features, views, jnp.asarray(valid, bool)
  )
  features, views = _present(valid, features, views)
  cosines = _products(_unit(features), _unit(views)) / temperature
  # A row that fills keeps itself, so that its sum isn't empty.
  allowed = valid[None] | jnp.eye(len(valid), dtype=bool)
  among = jnp.where(allowed, cosines, -jnp.inf)
  loss = jax.nn.logsumexp(among, -1) - jnp.diagonal(cosines)
  return jnp.where(valid, loss, 0.0)


def sinkhorn_codes(
  scores: Array, valid: Array, *, epsilon: float = 0.05, iterations: int = 3
) -> Array:
  """Soft assignments of elements to prototypes that use all prototypes alike.

  Starts from exp(scores / epsilon) and scales columns, then rows, in turn: each
  prototype gets a share of 1 / C of the elements, and each element sums to 1.
  The rows are exact and the columns approximate.

  Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting
  Cluster Assignments", arXiv:2006.09882 (SwAV), with its defaults.

  Args:
    scores: [N, C] cosines of elements and prototypes.
    valid: [N] bool, False for elements that only fill the batch.
    epsilon: smoothness of the assignment, > 0.
    iterations: number of scalings of columns and of rows.

  Returns:
    [N, C] codes, with rows that sum to 1.

  Raises:
    AssertionError: shapes differ.
    UserError: epsilon isn't positive.
  """
  check_range("epsilon", epsilon, 0)
  scores, valid = floats_with_axes("NC N", scores, jnp.asarray(valid, bool))
  logs = jnp.where(valid[:, None], scores, 0.0) / epsilon
  counted = jnp.where(valid[:, None], 0.0, -jnp.inf)
  for _ in range(iterations):
    used = jax.nn.logsumexp(logs + counted, 0)
    logs = logs - jnp.where(jnp.isfinite(used), used, 0.0)
    logs = logs - jax.nn.logsumexp(logs, 1, keepdims=True)
  return jnp.exp(logs)


def swapped_codes(
  features: Array,
  views: Array,
  prototypes: Array,
  valid: Array,
  *,
  temperature: float = 0.1,
  epsilon: float = 0.05,
  iterations: int = 3,
) -> Array:
  """SwAV's loss: each view predicts the other view's soft assignment.

  l_i = L(h_i, q'_i) + L(h'_i, q_i),
  L(h, q) = -sum_c q_c log softmax_c(cos(h, p_c) / t)

  The codes q and q' are `sinkhorn_codes` of the views; gradients do not flow
  into them.

  Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
  Modeling", arXiv:2401.06080; Caron et al. 2020, arXiv:2006.09882.

  Args:
    features: [N, D] first views h.
    views: [N, D] second views h'.
    prototypes: [C, D] p, which are trained too.
    valid: [N] bool, False for elements that only fill the batch.
    temperature: t, > 0.
    epsilon: smoothness of the assignment, > 0.
    iterations: scalings of `sinkhorn_codes`.

  Returns:
    [N] losses; 0 for elements that only fill the batch.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("temperature", temperature, 0)
  features, views, prototypes, valid = floats_with_axes(
    "ND ND CD N", features, views, prototypes, jnp.asarray(valid, bool)
  )
  features, views = _present(valid, features, views)
  points = _unit(prototypes)
  first = _products(_unit(features), points)
  second = _products(_unit(views), points)
  codes = lambda scores: jax.lax.stop_gradient(
    sinkhorn_codes(scores, valid, epsilon=epsilon, iterations=iterations)
  )
  surprise = lambda scores, q: (
    -jnp.sum(q * jax.nn.log_softmax(scores / temperature), -1)
  )
  loss = surprise(first, codes(second)) + surprise(second, codes(first))
  return jnp.where(valid, loss, 0.0)


def both_responses(chosen: Array, rejected: Array) -> Array:
  """[B, D], [B, D] -> [2 B, D]: the elements are the responses themselves."""
  return jnp.concatenate(as_floats(chosen, rejected))


def both_differences(chosen: Array, rejected: Array) -> Array:
  """[B, D], [B, D] -> [2 B, D]: the elements are differences, either way."""
  chosen, rejected = as_floats(chosen, rejected)
  return jnp.concatenate([chosen - rejected, rejected - chosen])


def _of_pairs(elements, arrays, valid, temperature):
  chosen, rejected, chosen_views, rejected_views, valid = floats_with_axes(
    "BD BD BD BD BK", *arrays, jnp.asarray(valid, bool)
  )
  whole = jnp.all(valid, -1)
  loss = view_matching(
    elements(chosen, rejected),
    elements(chosen_views, rejected_views),
    jnp.concatenate([whole, whole]),
    temperature=temperature,
  )
  return jnp.mean(loss.reshape(2, -1), 0)


def simcse(
  chosen_features: Array,
  rejected_features: Array,
  chosen_views: Array,
  rejected_views: Array,
  valid: Array,
  *,
  temperature: float = 0.05,
) -> Array:
  """Contrastive loss (SimCSE) of the responses' features, for a sum of losses.

  l_b = mean over i in {w, l} of
  -log(exp(cos(h_bi, h'_bi) / t) / sum_aj exp(cos(h_bi, h'_aj) / t)),
  h, h' = two views of a response's features,  t = temperature

  Each of the batch's 2 B responses finds its own second view among all. The
  paper adds the loss to Bradley-Terry's with a weight that it doesn't give, and
  the temperature is SimCSE's: sweep both. The batch is the whole batch of all
  devices.

  Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
  Modeling", arXiv:2401.06080.

  Args:
    chosen_features: [B, D] features of the preferred responses.
    rejected_features: [B, D] the same for the dispreferred responses.
    chosen_views: [B, D] chosen_features from a pass with other noise.
    rejected_views: [B, D] rejected_features from a pass with other noise.
    valid: [B, 2] bool, False in rows that only fill the batch, which have loss
      0.
    temperature: t, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  arrays = chosen_features, rejected_features, chosen_views, rejected_views
  return _of_pairs(both_responses, arrays, valid, temperature)


def simcse_differences(
  chosen_features: Array,
  rejected_features: Array,
  chosen_views: Array,
  rejected_views: Array,
  valid: Array,
  *,
  temperature: float = 0.05,
) -> Array:
  """Contrastive loss (SimCSE) of differences of a pair's features.

  l_b = mean over s in {1, -1} of
  -log(exp(cos(s d_b, s d'_b) / t) / sum_ar exp(cos(s d_b, r d'_a) / t)),
  d = h(y_w) - h(y_l),  d' = the same in another view,  t = temperature

  The elements are what a ranking depends on: the differences of features, in
  either direction. All else is as in `simcse`.

  Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
  Modeling", arXiv:2401.06080.

  Args:
    chosen_features: [B, D] features of the preferred responses.
    rejected_features: [B, D] the same for the dispreferred responses.
    chosen_views: [B, D] chosen_features from a pass with other noise.
    rejected_views: [B, D] rejected_features from a pass with other noise.
    valid: [B, 2] bool, False in rows that only fill the batch, which have loss
      0.
    temperature: t, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  arrays = chosen_features, rejected_features, chosen_views, rejected_views
  return _of_pairs(both_differences, arrays, valid, temperature)
