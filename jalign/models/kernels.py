"""Attention kernels that ship with jax, all called with one layout.

Queries are [B, T, H, E], keys and values [B, G, S, E], as everywhere in
jalign.models. Each function works on the arrays of one device;
`attention.mapped` maps it over a mesh. `interpret` runs a Pallas kernel as
plain JAX, for tests.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jalign.types import Array

BLOCK = 128  # the slots of a cache for the step kernels are a multiple of this
_SPLITS = 16  # largest number of parts of a cache that a GPU works on at once
_ROWS = 16  # number of queries of the smallest TPU tile in bfloat16


def cudnn(
  q: Array,
  k: Array,
  v: Array,
  mask: Array | None = None,
  lengths: Array | None = None,
  *,
  causal: bool = False,
  implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Array:
  """cuDNN's flash attention, or jax's own implementation for "xla".

  Args:
    q: [B, T, H, E] queries, float16 or bfloat16.
    k: [B, G, S, E] keys.
    v: [B, G, S, E] values.
    mask: [B, T, S] bool. It becomes a bias in memory, so that it is better to
      use `causal` and `lengths` where they are enough.
    lengths: [B] int32; only the first `lengths[b]` keys of row b count.
    causal: whether query t sees only keys up to t.
    implementation: argument of jax.nn.dot_product_attention.

  Returns:
    [B, T, H, E].
  """
  return jax.nn.dot_product_attention(
    q,
    k.swapaxes(1, 2),
    v.swapaxes(1, 2),
    mask=None if mask is None else mask[:, None],
    key_value_seq_lengths=lengths,
    is_causal=causal,
    implementation=implementation,
  )


def split_k(
  q: Array, k: Array, v: Array, lengths: Array, *, interpret: bool = False
) -> Array:
  """Attention of one query per row on a GPU, by parts of the cache.

  The kernel computes parts of the cache separately and then combines them.

  Args:
    q: [B, 1, H, E] queries, E a power of two.
    k: [B, G, S, E] keys, S a multiple of 16, better of 128.
    v: [B, G, S, E] values.
    lengths: [B] int32, at least 1; only the first `lengths[b]` keys of row b
      count.
    interpret: see the head of this file.

  Returns:
    [B, 1, H, E] in q's dtype.
  """
  from jax.experimental.pallas.ops.gpu import decode_attention

  slots = k.shape[2]
  block = math.gcd(slots, BLOCK)
  splits = max(n for n in range(1, _SPLITS + 1) if slots // block % n == 0)
  out = decode_attention.gqa(
    q[:, 0],
    k.swapaxes(1, 2),  # the kernel swaps them back
    v.swapaxes(1, 2),
    kv_seq_len=lengths,
    block_k=block,
    k_splits=splits,
    interpret=interpret,
  )
  # The kernel returns float32 for bfloat16 queries.
  return out[:, None].astype(q.dtype)


def splash(
  q: Array,
  k: Array,
  v: Array,
  segment_ids: Array | None = None,
  *,
  interpret: bool = False,
) -> Array:
  """Causal attention of a sequence to itself on a TPU, with its gradient.

  Args:
    q: [B, T, H, E] queries; T may have any size and is padded here.
    k: [B, G, T, E] keys.
    v: [B, G, T, E] values.
    segment_ids: [B, T] int32; tokens see only their own segment. None for one
      segment.
    interpret: see the head of this file.

  Returns:
    [B, T, H, E].
  """
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernels,
  )
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask as masks,
  )

  length, heads = q.shape[1:3]
  padding = -length % BLOCK
  total = length + padding
  block = math.gcd(total, 512)
  sizes = kernels.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_q_dq=block,
    block_kv_dq=block,
  )
  kernel = kernels.make_splash_mha_single_device(
    mask=masks.MultiHeadMask([masks.CausalMask((total, total))] * heads),
    block_sizes=sizes,
    interpret=interpret,
  )
  # Padding comes last, where no query of the sequence sees it.
  pad = lambda x: jnp.pad(x, [(0, 0), (0, 0), (0, padding), (0, 0)])
  q, k, v = pad(_scaled(q).swapaxes(1, 2)), pad(k), pad(v)
  if segment_ids is None:
    out = jax.vmap(kernel)(q, k, v)
  else:
    ids = jnp.pad(segment_ids, [(0, 0), (0, padding)], mode="edge")
    out = jax.vmap(kernel)(q, k, v, kernels.SegmentIds(ids, ids))
  return out[:, :, :length].swapaxes(1, 2)


def splash_step(
  q: Array, k: Array, v: Array, lengths: Array, *, interpret: bool = False
) -> Array:
  """Attention of one query per row on a TPU.

  The R query heads that share a key/value head are passed to the kernel as a
  sequence of R queries. jax's paged kernel isn't used, because it needs pages
  with heads before rows, and a cache with rows first would have to be
  transposed at every step.

  Args:
    q: [B, 1, H, E] queries.
    k: [B, G, S, E] keys, S a multiple of 128.
    v: [B, G, S, E] values.
    lengths: [B] int32, at least 1; only the first `lengths[b]` keys of row b
      count.
    interpret: see the head of this file.

  Returns:
    [B, 1, H, E].
  """
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernels,
  )
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask as masks,
  )

  batch, _, heads, width = q.shape
  groups, slots = k.shape[1:3]
  ratio = heads // groups
  padding = -ratio % _ROWS
  kernel = kernels.make_splash_mha_single_device(
    mask=masks.MultiHeadMask(
      [masks.FullMask((ratio + padding, slots))] * groups
    ),
    block_sizes=kernels.BlockSizes(
      block_q=ratio + padding, block_kv=math.gcd(slots, 512)
    ),
    interpret=interpret,
  )
  q = _scaled(q).reshape(batch, groups, ratio, width)
  q = jnp.pad(q, [(0, 0), (0, 0), (0, padding), (0, 0)])
  unseen = jnp.arange(slots, dtype=jnp.int32) >= lengths[:, None]
  ids = kernels.SegmentIds(
    jnp.zeros((batch, ratio + padding), jnp.int32), unseen.astype(jnp.int32)
  )
  out = jax.vmap(kernel)(q, k, v, ids)
  return out[:, :, :ratio].reshape(batch, 1, heads, width)


def _scaled(q):
  return (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
