"""Changes to logits before a draw: what is forbidden, rarer or cut off.

Nothing here sorts the vocabulary. A filter finds its threshold by bisection
over the bit patterns of float32, which are ordered like the numbers
themselves: 32 passes of compare and reduce give the exact threshold. Under a
mesh that splits the vocabulary, a pass reduces [B] numbers over it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.types import Array


def add_bias(
  logits: Array,
  *,
  bias: tuple[tuple[int, float], ...],
  forbidden: tuple[int, ...],
) -> Array:
  """Adds to the logits [B, V] of some tokens; -inf for forbidden ones.

  Raises:
    UserError: a token is outside the vocabulary, or all are forbidden.
  """
  vocab = logits.shape[-1]
  for where, ids in (("forbidden", forbidden), ("bias", [i for i, _ in bias])):
    outside = [i for i in ids if not 0 <= i < vocab]
    if outside:
      raise UserError(
        f"token {outside[0]} is outside the vocabulary of {vocab}.",
        where=f"sampler.{where}",
      )
  shift = np.zeros(vocab, np.float32)
  for token, value in bias:
    shift[token] += value
  shift[list(forbidden)] = -np.inf
  if np.isneginf(shift).all():
    raise UserError("no token is left.", where="sampler.forbidden")
  return logits + shift


def penalize_repetition(logits: Array, seen: Array, *, penalty: float) -> Array:
  """Divides positive logits of tokens that have occurred, multiplies others.

  Keskar et al. 2019, "CTRL", arXiv:1909.05858, section 4.1, in the sign-aware
  form of `transformers`.

  Args:
    logits: [B, V].
    seen: [B, V] bool, True for tokens of a row's prompt and response so far.
    penalty: above 1 makes them rarer.
  """
  penalized = jnp.where(logits < 0, logits * penalty, logits / penalty)
  return jnp.where(seen, penalized, logits)


def keep_top_k(logits: Array, *, k: int) -> Array:
  """-inf below the k-th largest of each row of [B, V]; ties with it stay."""
  if k >= logits.shape[-1]:
    return logits
  enough = lambda above: jnp.sum(above, -1) >= k
  return _keep_from_threshold(logits, enough)


def keep_top_p(logits: Array, *, p: float) -> Array:
  """-inf outside the smallest set of likeliest tokens with probability >= p."""
  probs = jax.nn.softmax(logits, -1)
  enough = lambda above: jnp.sum(jnp.where(above, probs, 0.0), -1) >= p
  return _keep_from_threshold(logits, enough)


def keep_min_p(logits: Array, *, p: float) -> Array:
  """-inf where a token is less than p times as probable as the likeliest."""
  floor = jnp.max(logits, -1, keepdims=True) + jnp.log(p)
  return jnp.where(logits >= floor, logits, -jnp.inf)


def _ordered_bits(x: Array) -> Array:
  """float32 -> uint32 with the same order (-0.0 counts as 0.0)."""
  bits = jax.lax.bitcast_convert_type(x + 0.0, jnp.uint32)
  flip = jnp.where(bits >> 31, jnp.uint32(0xFFFFFFFF), jnp.uint32(0x80000000))
  return bits ^ flip


def _keep_from_threshold(logits, enough):
  """Keeps values from the highest threshold whose upper set is `enough`."""
  keys = _ordered_bits(logits)

  def body(i, threshold):
    higher = threshold | (jnp.uint32(0x80000000) >> i.astype(jnp.uint32))
    return jnp.where(enough(keys >= higher[:, None]), higher, threshold)

  start = jnp.zeros(logits.shape[:1], jnp.uint32)
  threshold = jax.lax.fori_loop(0, 32, body, start)
  return jnp.where(keys >= threshold[:, None], logits, -jnp.inf)
