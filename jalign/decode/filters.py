"""Changes to logits before a draw: biases, penalties and truncation.

No filter sorts the vocabulary. Top-k and top-p find their threshold by
bisection over the bit patterns of float32, which can be ordered like the
numbers: 32 passes that compare and reduce give the exact threshold. Where a
mesh splits the vocabulary, each pass exchanges [B] numbers between devices.
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
  """Adds a bias to the logits of some tokens, and forbids others.

  Args:
    logits: [B, V].
    bias: (token id, what is added to its logit).
    forbidden: ids of tokens whose logits become -inf.

  Returns:
    [B, V] logits.

  Raises:
    UserError: a token is outside the vocabulary, or all tokens are forbidden.
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
    raise UserError("no token is left to draw.", where="sampler.forbidden")
  return logits + shift


def penalize_repetition(logits: Array, seen: Array, *, penalty: float) -> Array:
  """Makes tokens that have occurred rarer (or more frequent, below 1).

  Of these tokens, positive logits are divided by the penalty and negative
  logits are multiplied by it: Keskar et al. 2019, "CTRL", arXiv:1909.05858,
  section 4.1, in the sign-aware form of `transformers`.

  Args:
    logits: [B, V].
    seen: [B, V] bool, True for tokens of a row's prompt and response so far.
    penalty: > 0; above 1 it makes the seen tokens rarer.

  Returns:
    [B, V] logits.
  """
  penalized = jnp.where(logits < 0, logits * penalty, logits / penalty)
  return jnp.where(seen, penalized, logits)


def keep_top_k(logits: Array, *, k: int) -> Array:
  """Sets logits [B, V] below the k-th largest of their row to -inf.

  Logits equal to the k-th largest all stay.
  """
  if k >= logits.shape[-1]:
    return logits
  enough = lambda above: jnp.sum(above, -1) >= k
  return _keep_from_threshold(logits, enough)


def keep_top_p(logits: Array, *, p: float) -> Array:
  """Keeps the fewest most probable tokens whose probability reaches p.

  The logits [B, V] of other tokens become -inf; ties with the last stay.
  """
  probs = jax.nn.softmax(logits, -1)
  enough = lambda above: jnp.sum(jnp.where(above, probs, 0.0), -1) >= p
  return _keep_from_threshold(logits, enough)


def keep_min_p(logits: Array, *, p: float) -> Array:
  """Sets to -inf the logits [B, V] of tokens far less probable than the top.

  Those are the tokens less than p times as probable as the most probable token.
  """
  floor = jnp.max(logits, -1, keepdims=True) + jnp.log(p)
  return jnp.where(logits >= floor, logits, -jnp.inf)


def _ordered_bits(x: Array) -> Array:
  """Maps float32 to uint32 in the same order (-0.0 counts as 0.0)."""
  bits = jax.lax.bitcast_convert_type(x + 0.0, jnp.uint32)
  flip = jnp.where(bits >> 31, jnp.uint32(0xFFFFFFFF), jnp.uint32(0x80000000))
  return bits ^ flip


def _keep_from_threshold(logits, enough):
  """Sets logits to -inf below the highest threshold that keeps `enough`.

  `enough` takes a mask [B, V] of kept tokens and gives [B] booleans.
  """
  keys = _ordered_bits(logits)

  def body(i, threshold):
    higher = threshold | (jnp.uint32(0x80000000) >> i.astype(jnp.uint32))
    return jnp.where(enough(keys >= higher[:, None]), higher, threshold)

  start = jnp.zeros(logits.shape[:1], jnp.uint32)
  threshold = jax.lax.fori_loop(0, 32, body, start)
  return jnp.where(keys >= threshold[:, None], logits, -jnp.inf)
