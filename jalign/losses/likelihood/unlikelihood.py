"""Losses that lower the probability of single tokens, and which tokens."""

import math

import jax.numpy as jnp

from jalign.losses._arrays import (
  at_most,
  check_range,
  floats_with_axes,
  log1mexp,
  where_scored,
)
from jalign.types import Array

# 1 - p counts as at least 1e-5, and for repeated tokens as at least 1e-20.
# Below these bounds the penalty's gradient is 0, as it is at p = 0.
_LARGEST_TOKEN = math.log1p(-1e-5)
_LARGEST_REPEAT = -1e-20


def _penalty(logps: Array, counted: Array, largest: float) -> Array:
  """-log(1 - p) where `counted`, for log p at most `largest`; 0 elsewhere."""
  z = at_most(jnp.where(counted, logps, -1.0), largest)
  return jnp.where(counted, -log1mexp(z), 0.0)


def token_penalty(logps: Array, counted: Array) -> Array:
  """-log max(1 - p, 1e-5) where `counted`, and 0 elsewhere."""
  return _penalty(logps, counted, _LARGEST_TOKEN)


def unlikelihood(
  token_logps: Array,
  candidate_logps: Array,
  candidate_mask: Array,
  mask: Array,
  *,
  alpha: float = 1.0,
) -> Array:
  """Likelihood of the tokens, and unlikelihood of candidates at each token.

  l = sum_t (-log p(y_t) - alpha sum_{c in C_t} log(1 - p(c))),
  C_t = the candidates at t, each token once

  A batch's sum is divided by scored tokens. The paper's candidates are the
  tokens before t except y_t: see `previous_token_candidates`, which also drops
  second occurrences. The loss itself doesn't know whether two candidates are
  the same token. 1 - p counts as at least 1e-5, and has no gradient below. A
  token without candidates has only the likelihood term, and a response without
  scored tokens has loss 0.

  Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training",
  arXiv:1908.04319.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    candidate_logps: [B, T, C] log-probs (nats) of C tokens at position t.
    candidate_mask: [B, T, C] bool, which of the C tokens are candidates at t.
    mask: [B, T] bool, True on scored tokens.
    alpha: weight of the penalty, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("alpha", alpha, 0, ends="[)")
  token_logps, candidate_logps, candidate_mask, mask = floats_with_axes(
    "BT BTC BTC BT", token_logps, candidate_logps, candidate_mask, mask
  )
  (logps,) = where_scored(mask, token_logps)
  counted = candidate_mask & mask[..., None]
  penalty = token_penalty(candidate_logps, counted).sum((-2, -1))
  return alpha * penalty - logps.sum(-1)


def unlikelihood_sequence(
  token_logps: Array, repeats: Array, mask: Array
) -> Array:
  """Unlikelihood of the tokens of a sample that repeat an earlier n-gram.

  l = -sum_t [t is in a repeated n-gram] log(1 - p(y_t))

  The loss is for responses that the policy has generated; `repeated_ngrams`
  finds the tokens. A batch's sum is divided by scored tokens, repeated or not.
  1 - p counts as at least 1e-20, and has no gradient below. A response without
  repeats has loss 0.

  Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training",
  arXiv:1908.04319.

  Args:
    token_logps: [B, T] log-probs (nats) of the sample's tokens.
    repeats: [B, T] bool, True on tokens that are part of a repeated n-gram.
    mask: [B, T] bool, True on scored tokens.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  token_logps, repeats, mask = floats_with_axes(
    "BT BT BT", token_logps, repeats, mask
  )
  return _penalty(token_logps, repeats & mask, _LARGEST_REPEAT).sum(-1)


def previous_token_candidates(tokens: Array, mask: Array) -> Array:
  """Candidates of token-level unlikelihood: earlier tokens, each token once.

  Position s is a candidate at t if it is the first scored position with its
  token, comes before t, and holds another token than t. Only scored tokens
  count: tokens of the prompt and padding don't, whatever their ids.

  Args:
    tokens: [B, T] token ids.
    mask: [B, T] bool, True on scored tokens.

  Returns:
    [B, T, T] bool; row t is True at the positions whose tokens are candidates
    at t. A row is all False where t isn't scored.
  """
  size = tokens.shape[-1]
  before = jnp.tri(size, k=-1, dtype=bool)  # [t, s]: s < t
  same = tokens[:, :, None] == tokens[:, None, :]
  # a scored position is the first of its token if no earlier scored position
  # has that token
  seen = (same & before & mask[:, None, :]).any(-1)
  first = mask & ~seen
  return first[:, None, :] & before & ~same & mask[:, :, None]


def repeated_ngrams(tokens: Array, mask: Array, *, n: int = 4) -> Array:
  """Tokens that are part of an n-gram that occurred before in the response.

  An n-gram is n neighbouring scored tokens. It is repeated if an equal n-gram
  begins earlier, whether the two overlap or not; the tokens of the earlier
  n-gram aren't marked by it. The response's last n-gram counts, too.

  Args:
    tokens: [B, T] token ids.
    mask: [B, T] bool, True on scored tokens.
    n: length of an n-gram, 1 or more.

  Returns:
    [B, T] bool, True on tokens of a repeated n-gram.
  """
  size = tokens.shape[-1]
  before = jnp.tri(size, k=-1, dtype=bool)
  equal = tokens[:, :, None] == tokens[:, None, :]
  equal &= mask[:, :, None] & mask[:, None, :] & before
  # [t, s]: the n-grams that begin at t and s are equal; the padding with False
  # excludes n-grams that would end outside
  padded = jnp.pad(equal, ((0, 0), (0, n - 1), (0, n - 1)))
  grams = equal
  for i in range(1, n):
    grams = grams & padded[:, i : i + size, i : i + size]
  begins = grams.any(-1)
  padded = jnp.pad(begins, ((0, 0), (n - 1, 0)))
  repeated = begins
  for i in range(n - 1):
    repeated = repeated | padded[:, i : i + size]
  return repeated
