"""Signs of over-optimisation in a policy's own distributions.

Shi et al. 2024, "Understanding Likelihood Over-optimisation in Direct Alignment
Algorithms", arXiv:2410.11677. Before the quality of samples declines, the
entropy over the k most probable next tokens falls for long, and their
probability mass declines.
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
  """Statistics of each token's k most probable successors.

  Attributes:
    entropy_bits: [B, T] -sum p log2 p over the k, with the model's own p.
    renormalised_bits: [B, T] the entropy of p divided by its sum.
    mass: [B, T] sum of p over the k, in [0, 1].
  """

  entropy_bits: Array
  renormalised_bits: Array
  mass: Array


def top_k(
  hidden: Array, head: Head, k: int = 10, *, mask: Array | None = None
) -> TopK:
  """Computes entropy and mass of the top k, a chunk of tokens at a time.

  The paper's text leaves open whether its entropy is renormalised, so both
  entropies are given.

  Args:
    hidden: [B, T, D] states that predict the tokens.
    head: the model's head.
    k: number of successors; the paper has 10.
    mask: [B, T] bool, True on the tokens that count; others get 0. None counts
      all.
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
  """Finds where a series turns: an early warning.

  The paper has no rule for it. Ours is: the first extreme that the next
  `patience` values don't reach again.

  Args:
    values: an indicator at successive evaluations.
    falls: True for an indicator that declines as training goes well, whose turn
      is a minimum; False for one that rises.
    patience: number of later values.

  Returns:
    The index of the extreme; None if the series hasn't turned.
  """
  series = np.asarray(values, np.float64) * (-1 if falls else 1)
  best = 0
  for i in range(1, len(series)):
    if series[i] >= series[best]:
      best = i
    elif i - best >= patience:
      return best
  return None
