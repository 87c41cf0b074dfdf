"""From logits to tokens: truncation by thresholds, and an inverse-CDF draw.

Nothing here sorts the vocabulary or draws a random number per entry of it.
A filter finds its threshold by bisection over the bit patterns of float32,
which are ordered like the numbers themselves: 32 passes of compare and
reduce give the exact threshold.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.types import Array

BLOCK = 256  # columns of one block of the two-level draw


class Sampler(NamedTuple):
  """How the next token is chosen from logits.

  Attributes:
    filter: `logits [B, V] -> [B, V]`, tempered and -inf where truncated.
    draw: `(filtered [B, V], uniforms [B]) -> tokens [B] int32`.
  """

  filter: Callable[[Array], Array]
  draw: Callable[[Array, Array], Array]


@functools.lru_cache  # equal settings give the same functions: one jit cache
def sampler(
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  min_p: float = 0.0,
) -> Sampler:
  """A sampler that applies temperature, top-k, top-p and min-p, in this order.

  The filtered distributions are those of the `transformers` processors of
  the same names, except that values tied with a threshold are all kept.

  Args:
    temperature: divides the logits, >= 0; 0 is greedy.
    top_k: keeps the k most probable tokens; 0 keeps all.
    top_p: keeps the fewest most probable tokens whose probability reaches
      this; in (0, 1], 1 keeps all (Holtzman et al. 2019, arXiv:1904.09751).
    min_p: keeps tokens at least this times as probable as the most probable
      one; in [0, 1], 0 keeps all (Nguyen et al. 2024, arXiv:2407.01082).

  Raises:
    UserError: a setting is outside its range, or truncation is asked of the
      greedy sampler.
  """
  for name, value, valid, valid_range in (
    ("temperature", temperature, temperature >= 0, ">= 0"),
    ("top_k", top_k, top_k >= 0 and top_k == int(top_k), "an integer >= 0"),
    ("top_p", top_p, 0 < top_p <= 1, "in (0, 1]"),
    ("min_p", min_p, 0 <= min_p <= 1, "in [0, 1]"),
  ):
    if not valid:
      raise UserError(
        f"{value!r} must be {valid_range}.", where=f"sampler.{name}"
      )
  if temperature == 0:
    if top_k or top_p < 1 or min_p:
      raise UserError(
        "greedy sampling (temperature 0) takes no top_k, top_p or min_p.",
        where="sampler.temperature",
      )
    return Sampler(_only_largest, lambda logits, _: greedy(logits))
  filters: list[Callable[[Array], Array]] = []
  if temperature != 1:
    filters.append(lambda z: z / temperature)
  if top_k:
    filters.append(functools.partial(keep_top_k, k=top_k))
  if top_p < 1:
    filters.append(functools.partial(keep_top_p, p=top_p))
  if min_p:
    filters.append(functools.partial(keep_min_p, p=min_p))
  return Sampler(
    lambda z: functools.reduce(lambda x, f: f(x), filters, z), inverse_cdf
  )


def greedy(logits: Array) -> Array:
  """The first most probable token [B] int32 of logits [B, V].

  A maximum and then a minimum of indices: on the CPU an argmax is some thirty
  times slower.
  """
  ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
  largest = jnp.max(logits, -1, keepdims=True)
  return jnp.min(jnp.where(logits == largest, ids, ids.size - 1), -1)


def _only_largest(logits: Array) -> Array:
  ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
  return jnp.where(ids == greedy(logits)[:, None], 0.0, -jnp.inf)


def inverse_cdf(logits: Array, uniforms: Array) -> Array:
  """Draws from softmax(logits) with one uniform a row.

  Two levels: the block of the vocabulary first, by the blocks' sums, then the
  token within it; so the cumulative sums run over short axes only.

  Args:
    logits: [B, V], -inf for tokens that may not be drawn.
    uniforms: [B] in [0, 1).

  Returns:
    [B] int32 tokens.
  """
  batch, vocab = logits.shape
  mass = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
  mass = jnp.pad(mass, [(0, 0), (0, -vocab % BLOCK)])
  mass = mass.reshape(batch, -1, BLOCK)
  sums = jnp.sum(mass, -1)
  target = uniforms * jnp.sum(sums, -1)
  block, target = _first_above(sums, target)
  inside = jnp.take_along_axis(mass, block[:, None, None], 1)[:, 0]
  offset, _ = _first_above(inside, target)
  return block * BLOCK + offset


def _first_above(mass: Array, target: Array) -> tuple[Array, Array]:
  """First index [B] where the cumulative mass [B, W] exceeds the target.

  Rounding can leave the target at the total; the last index with mass is
  taken then, so that a token of no mass is never drawn. Also returns the rest
  of the target inside that entry.
  """
  cumulative = jnp.cumsum(mass, -1)
  index = jnp.sum(cumulative <= target[:, None], -1, dtype=jnp.int32)
  ids = jnp.arange(mass.shape[-1], dtype=jnp.int32)
  last = jnp.max(jnp.where(mass > 0, ids, 0), -1)
  index = jnp.minimum(index, last)
  at = lambda x: jnp.take_along_axis(x, index[:, None], -1)[:, 0]
  return index, jnp.maximum(target - (at(cumulative) - at(mass)), 0.0)


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
