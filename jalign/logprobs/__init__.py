"""From hidden states to log-probs, a tile of the vocabulary at a time.

The [B, T, V] logits are never all in memory: the forward pass scans tiles of
the output embedding and keeps a running maximum, sum of exponentials and target
logit; the backward pass computes each tile again. Under a mesh every device
streams its own part of the vocabulary, and only [B, T] statistics and the
gradients' sums cross devices.
"""

from jalign.logprobs.dense import logits
from jalign.logprobs.statistics import (
  TokenStatistics,
  sequence_logprobs,
  token_logprobs,
  token_statistics,
)
from jalign.logprobs.tiles import TILE_BYTES
from jalign.logprobs.towards import token_forward_kl, top_logprobs
from jalign.logprobs.two_heads import mixture_logprobs, token_kl

__all__ = [
  "TILE_BYTES",
  "TokenStatistics",
  "logits",
  "mixture_logprobs",
  "sequence_logprobs",
  "token_forward_kl",
  "token_kl",
  "token_logprobs",
  "token_statistics",
  "top_logprobs",
]
