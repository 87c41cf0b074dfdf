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
  """RRHF: a hinge at 0 on average log-probs, plus the best response's NLL.

  l = sum over r_i < r_j of max(0, p_i - p_j) - beta_sft log pi(y_best),
  p = (log pi(y)) / |y|^exponent,  r = score

  The gradient at the kink is 0. Pairs of equal scores don't count. Of several
  best responses the likelihood of the list's first is learnt. A list of one
  response has only the likelihood term, and an empty list has loss 0. The
  likelihood is a sum over tokens and both terms have weight 1, as in the paper;
  the authors' code multiplies the ranking term by 100 and averages the
  likelihood over tokens.

  Yuan et al. 2023, "RRHF: Rank Responses to Align Language Models with Human
  Feedback without tears", arXiv:2304.05302.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] numbers of scored tokens of the responses.
    scores: [B, K] rewards, higher is better; constants, of which
      only the order counts.
    valid: [B, K] bool, False where a list is shorter than K.
    exponent: exponent of the length that divides a log-prob, >= 0; 1 gives the
      average per token.
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
  """Alignment fine-tuning (AFT): better responses above all worse responses.

  l = log(1 + sum over r_i > r_j of exp(p_j - p_i)),
  p = (log pi(y)) / |y|,  r = score

  With scores of 0 and 1 the pairs are those of a right and a wrong answer; with
  other scores this is the paper's form for ranked responses. A list without an
  ordered pair, say of wrong answers only, has loss 0. This is only the
  alignment term; to add the likelihood of the reference answers, as the paper
  does, see `weighted_sum`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] numbers of scored tokens of the responses.
    scores: [B, K] rewards, higher is better; constants, of which
      only the order counts.
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
  """AFT with the detached constraint: no gradient for worse responses.

  l = log(1 + sum over r_i > r_j of exp(sg[p_j] - p_i)),
  p = (log pi(y)) / |y|,  r = score,  sg[.] a constant

  The worse response of a pair gets no gradient from that pair, while the
  log-prob of the better response rises. A response in the middle of a ranking
  therefore rises too, through the pairs in which it is the better one. The
  values are those of `aft`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] numbers of scored tokens of the responses.
    scores: [B, K] rewards, higher is better; constants, of which
      only the order counts.
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
  """AFT with the boundary constraint: worse responses can't fall too far.

  l = log(1 + sum over r_i > r_j of [exp(p_j - p_i) + exp(T_ij - p_j)]),
  T_ij = sg[2 p*_j - 2 boundary - p_i],  p*_j = min over r_i > r_j of p_i,
  p = (log pi(y)) / |y|,  r = score,  sg[.] a constant

  With the better responses held fixed, the gradient by p_j of a worse response
  vanishes at p_j = p*_j - boundary, unless response j is itself better than
  another. That T is a constant is our reading of the paper: otherwise the
  constraint would push p_i. The paper tunes the boundary for each task, so that
  the default is ours. The pairs, and lists without a pair, are as in `aft`.

  Wang et al. 2023, "Making Large Language Models Better Reasoners with
  Alignment", arXiv:2309.02144.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] numbers of scored tokens of the responses.
    scores: [B, K] rewards, higher is better; constants, of which
      only the order counts.
    valid: [B, K] bool, False where a list is shorter than K.
    boundary: how far below the least p of the better responses a worse
      response is pulled back, in nats per token, >= 0.

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
