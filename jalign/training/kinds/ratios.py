"""How far importance ratios are from 1, for losses with recorded log-probs."""

from collections.abc import Sequence

import jax.numpy as jnp

from jalign import losses
from jalign.training.kinds.kind import Arrays, Sums, mean
from jalign.types import Array

OLD = "old_token_logps"  # the array that a loss with ratios takes
FIRST = "first_"  # begins the names of what only a step's first update tells


def clips_of(terms: Sequence[losses.Term]) -> list[float]:
  """The half-widths of clipping ranges, of losses that clip tokens' ratios."""
  return [
    losses.hyperparameters(term.loss)["clip"]
    for term in terms
    if OLD in term.arrays and "clip" in losses.hyperparameters(term.loss)
  ]


def observe_ratios(arrays: Arrays, weights: Array, clip: float) -> Sums:
  """Metrics of the ratios u = pi / old of a batch's tokens.

  On the first update of a round u is 1, unless sampler and trainer disagree.

  Args:
    arrays: `token_logps`, `old_token_logps` and `mask`, [..., T] each; `valid`
      [...], where some rows are no responses.
    weights: [B] weights of the examples.
    clip: half-width of the clipping range.

  Returns:
    `first_ratio_gap`: the largest |u - 1| of a response's tokens, the mean over
    responses. `clipped_share`: tokens with |u - 1| > clip.
  """
  mask = arrays["mask"]
  ratio = jnp.exp(jnp.where(mask, arrays["token_logps"] - arrays[OLD], 0.0))
  gap = jnp.abs(ratio - 1)
  if "valid" in arrays:
    weights = arrays["valid"] * weights[:, None]
  outside = jnp.sum(mask & (gap > clip), -1)
  tokens = jnp.sum(mask, -1)
  return {
    "first_ratio_gap": mean(jnp.max(gap, -1), weights),
    "clipped_share": (mean(outside, weights)[0], mean(tokens, weights)[0]),
  }
