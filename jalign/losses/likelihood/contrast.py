"""Likelihoods compared with those in other contexts or of other models."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  check_range,
  floats_with_axes,
  per_token,
  where_scored,
)
from jalign.losses.likelihood.unlikelihood import token_penalty
from jalign.types import Array


def cut(
  token_logps: Array,
  positive_token_logps: Array,
  negative_token_logps: Array,
  aligned: Array,
  mask: Array,
  *,
  lam: float = 1.1,
  alpha: float = 1.0,
  gamma: float = 0.0,
) -> Array:
  """Contrastive unlikelihood: judgments in the context reveal bad tokens.

  l = -(sum_{t not in U} log p_t + alpha sum_{t in U} n_t^g log(1 - p_t)) / N
      - sum_t log(p_t if aligned else n_t) / N,
  U = {t: n_t > lam q_t},  g = gamma,  N = scored tokens,
  p, q, n = pi(y_t) given the prompt alone, with a judgment that praises, with
  the true judgment, which criticises

  U and the weight n_t^g are constants. Where both contexts are equal and
  lam > 1 no token is bad: pass an aligned response that way. 1 - p counts as at
  least 1e-5, and has no gradient below; a response without scored tokens has
  loss 0. This is the paper's form. The authors' code differs: it halves the sum
  of the two terms, uses only the second term for an aligned response, finds U
  by n_t > lam p_t without a context for q, and has no weight n_t^g.

  Xu et al. 2023, "Reasons to Reject? Aligning Language Models with Judgments",
  arXiv:2312.14591.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens given the
      prompt.
    positive_token_logps: [B, T] log-probs of the same tokens with a positive
      judgment in the context; a constant, which only decides U.
    negative_token_logps: [B, T] log-probs of the same tokens with the true,
      negative judgment in the context.
    aligned: [B] bool, whether the judgment has nothing to criticise.
    mask: [B, T] bool, True on scored tokens.
    lam: ratio n_t / q_t above which a token is bad, > 0; the default is the
      authors' code's.
    alpha: weight of the unlikelihood, >= 0; the default is that of the
      authors' example run (their script has 0.1).
    gamma: exponent g of the weight n_t^g, >= 0; with the default there is no
      such weight, as in the authors' code. The paper tunes gamma.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("lam", lam, 0)
  check_range("alpha", alpha, 0, ends="[)")
  check_range("gamma", gamma, 0, ends="[)")
  plain, positive, negative, aligned, mask = floats_with_axes(
    "BT BT BT B BT",
    token_logps,
    positive_token_logps,
    negative_token_logps,
    aligned,
    mask,
  )
  plain, positive, negative = where_scored(mask, plain, positive, negative)
  count = jnp.maximum(mask.sum(-1), 1).astype(plain.dtype)
  judged = jax.lax.stop_gradient(negative)
  bad = judged - jax.lax.stop_gradient(positive) > jnp.log(lam)
  weight = alpha * jnp.exp(gamma * judged)
  penalty = weight * token_penalty(plain, mask & bad)
  first = penalty - jnp.where(bad, 0.0, plain)
  second = jnp.where(aligned[:, None], plain, negative)
  return (first - second).sum(-1) / count


def poft(
  logps: Array, lengths: Array, aligned_logps: Array, aligned_lengths: Array
) -> Array:
  """Preference-oriented fine-tuning: SFT compared with aligned models.

  l = -log sigmoid(p - mean_i p_i),
  p = log pi(y) / |y|,  p_i = the same under aligned model i

  The gradient is that of -w p with w = G / (G + exp(p)), where G is the
  geometric mean of the aligned models' probabilities per token: a response that
  those models find unlikely counts little. Each model's log-prob is divided by
  the number of tokens of its own tokenizer. Gradients do not flow into the
  aligned models.

  Fan et al. 2024, "Preference-Oriented Supervised Fine-Tuning: Favoring Target
  Model Over Aligned Large Language Models", arXiv:2412.12865.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    lengths: [B] numbers of scored tokens of the responses.
    aligned_logps: [B, I] summed response log-probs (nats) under I aligned
      models; a constant.
    aligned_lengths: [B, I] numbers of tokens that these models have scored.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, lengths, aligned_logps, aligned_lengths = floats_with_axes(
    "B B BI BI", logps, lengths, aligned_logps, aligned_lengths
  )
  others = per_token(jax.lax.stop_gradient(aligned_logps), aligned_lengths)
  return jax.nn.softplus(others.mean(-1) - per_token(logps, lengths))
