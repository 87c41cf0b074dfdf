"""Losses that rank the responses' average log-probs, without a reference."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, zero_where_invalid
from jalign.losses.listwise._lists import (
  averages,
  differences,
  outranks,
  precedes,
  sum_over_pairs,
)
from jalign.types import Array


def rrhf(
  logps: Array,
  lengths: Array,
  scores: Array,
  valid: Array,
  *,
  exponent: float = 1.0,
  beta_sft: float = 1.0,
) -> Array:
  """Rank responses: a hinge at 0 on average log-probs, and the best one's NLL.

  l = sum over r_i < r_j of max(0, p_i - p_j) - beta_sft log pi(y_best),
  p = (log pi(y)) / |y|^exponent,  r = score

  The gradient at the kink is 0. Pairs of equal scores count for nothing; of
  equal best responses the first of the list is learnt. A list of one is its
  likelihood term, an empty one has loss 0. The likelihood is a sum over tokens
  and the two terms weigh the same, as in the paper; the authors' code
  multiplies the ranking by 100 and averages the likelihood.

  Yuan et al. 2023, "RRHF: Rank Responses to Align Language Models with Human
  Feedback without tears", arXiv:2304.05302.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] scored tokens.
    scores: [B, K] rewards, higher is better; constants, only their order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.
    exponent: of the length that divides a log-prob, >= 0; 1 is the average.
    beta_sft: weight of the best response's likelihood, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("exponent", exponent, 0, ends="[)")
  check_range("beta_sft", beta_sft, 0, ends="[)")
  valid, logps, lengths, scores = zero_where_invalid(
    valid, logps, lengths, scores
  )
  scores = jax.lax.stop_gradient(scores)
  p = logps / jnp.maximum(lengths, 1) ** exponent
  ranking = sum_over_pairs(
    jax.nn.relu(-differences(p)), outranks(scores, valid)
  )
  best = valid & ~precedes(scores, valid).any(-2)
  return ranking - beta_sft * jnp.where(best, logps, 0).sum(-1)


def aft(logps: Array, lengths: Array, scores: Array, valid: Array) -> Array:
  """Alignment fine-tuning: all better responses above all worse ones.

  l = log(1 + sum over r_i > r_j of exp(p_j - p_i)),
  p = (log pi(y)) / |y|,  r = score

  With scores of 0 and 1 the pairs are those of a right and a wrong answer; with
  others this is the paper's form for ranked responses. A list without an
  ordered pair, say of wrong answers only, has loss 0. The alignment term alone:
  the likelihood of the reference answers that the paper adds is a term of its
  own, see `weighted_sum`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] scored tokens.
    scores: [B, K] rewards, higher is better; constants, only their order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  p, _, scores, valid = averages(logps, lengths, scores, valid)
  return _log_one_plus(outranks(scores, valid), -differences(p))


def aft_detached(
  logps: Array, lengths: Array, scores: Array, valid: Array
) -> Array:
  """AFT that leaves the worse response of a pair alone.

  l = log(1 + sum over r_i > r_j of exp(sg[p_j] - p_i)),
  p = (log pi(y)) / |y|,  r = score,  sg[.] a constant

  The paper's detached constraint: better responses rise, worse ones get no
  gradient. Of ranked responses one in the middle rises as the better of its
  pairs. Values, pairs and what is left out are those of `aft`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] scored tokens.
    scores: [B, K] rewards, higher is better; constants, only their order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  p, _, scores, valid = averages(logps, lengths, scores, valid)
  worse = jax.lax.stop_gradient(p)[..., None, :]
  return _log_one_plus(outranks(scores, valid), worse - p[..., :, None])


def aft_boundary(
  logps: Array,
  lengths: Array,
  scores: Array,
  valid: Array,
  *,
  boundary: float = 0.2,
) -> Array:
  """AFT that pulls worse responses back when they fall too far.

  l = log(1 + sum over r_i > r_j of [exp(p_j - p_i) + exp(T_ij - p_j)]),
  T_ij = sg[2 p*_j - 2 boundary - p_i],  p*_j = min over r_i > r_j of p_i,
  p = (log pi(y)) / |y|,  r = score,  sg[.] a constant

  For fixed better responses the gradient of a worse one vanishes at
  p_j = p*_j - boundary, if it is itself better than none. That T is a constant
  is our reading: without it p_i would be pushed by the constraint. The paper
  tunes the boundary for each task, so the default is ours. Pairs and what is
  left out are those of `aft`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] scored tokens.
    scores: [B, K] rewards, higher is better; constants, only their order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.
    boundary: nats per token below the least of the better ones, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("boundary", boundary, 0, ends="[)")
  p, _, scores, valid = averages(logps, lengths, scores, valid)
  pairs = outranks(scores, valid)
  fixed = jax.lax.stop_gradient(p)[..., :, None]
  least = jnp.where(pairs, fixed, jnp.inf).min(-2, keepdims=True)
  least = jnp.where(pairs.any(-2, keepdims=True), least, 0)
  back = 2 * least - 2 * boundary - fixed - p[..., None, :]
  return _log_one_plus(pairs, -differences(p), back)


def _log_one_plus(pairs, *exponents):
  """log(1 + the sum of exp of each [B, K, K] array over the pairs)."""
  flat = pairs.shape[:-2] + (-1,)
  terms = [jnp.where(pairs, x, -jnp.inf).reshape(flat) for x in exponents]
  zero = jnp.zeros_like(terms[0][..., :1])
  return jax.nn.logsumexp(jnp.concatenate([zero, *terms], -1), -1)
