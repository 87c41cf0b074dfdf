"""What a policy's own distributions say about over-optimisation.

Shi et al. 2024, "Understanding Likelihood Over-optimisation in Direct Alignment
Algorithms", arXiv:2410.11677: the entropy over the k most probable
next tokens falls for long, and their probability mass declines, before the
quality of samples does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jalign.logprobs import logits
from jalign.logprobs.dense import by_chunks
from jalign.types import Array, Head


class TopK(NamedTuple):
  """Of each token's distribution over its k most probable successors.

  Attributes:
    entropy_bits: [B, T] -sum p log2 p with the model's own probabilities.
    renormalised_bits: [B, T] the same with probabilities divided by their sum.
    mass: [B, T] their sum.
  """

  entropy_bits: Array
  renormalised_bits: Array
  mass: Array


def top_k(
  hidden: Array, head: Head, k: int = 10, *, mask: Array | None = None
) -> TopK:
  """The two indicators, a chunk of tokens at a time.

  The paper's text leaves open whether its entropy is renormalised: both are
  here.

  Args:
    hidden: [B, T, D] states that predict the tokens.
    head: the model's head.
    k: the paper's is 10.
    mask: [B, T] bool, the tokens that count; others get 0. None for all.
  """

  def chunk(h):
    z = logits(head, h)
    best = jax.lax.top_k(z, k)[0] - jax.nn.logsumexp(z, -1, keepdims=True)
    p = jnp.exp(best)
    mass = jnp.sum(p, -1)
    # A logit may be -inf: 0 log 0 = 0.
    nats = -jnp.sum(jnp.where(p > 0, p * best, 0.0), -1)
    bits = nats / jnp.log(2.0)
    return TopK(bits, bits / mass + jnp.log2(mass), mass)

  indicators = by_chunks(head, chunk, hidden)
  if mask is None:
    return indicators
  return jax.tree.map(lambda x: jnp.where(mask, x, 0.0), indicators)


def reversal(
  values: ArrayLike, *, falls: bool, patience: int = 3
) -> int | None:
  """Where a series stops going on and turns: the early warning.

  Our rule, the paper has none: the first extreme that `patience` later values
  in a row don't reach again.

  Args:
    values: an indicator at successive evaluations.
    falls: True for one that declines as training goes well (the turn is its
      least), False for one that rises.
    patience: values.

  Returns:
    The index of the extreme, None where the series hasn't turned.
  """
  series = np.asarray(values, np.float64) * (-1 if falls else 1)
  best = 0
  for i in range(1, len(series)):
    if series[i] >= series[best]:
      best = i
    elif i - best >= patience:
      return best
  return None
