"""Adapters that make any Flax Linen or NNX module a `Model`.

The module maps tokens [B, T] to logits [B, T, V], or to hidden states where a
`head` is given. As the adapter knows of no cache in the module, decoding runs
the whole prefix again at every step, which is correct but slow.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jalign.logprobs import logits
from jalign.types import Array, Head, Model, Params

HeadFunction = Callable[[Params], Head]


class PrefixCache(struct.PyTreeNode):
  """The tokens so far, which are all that a module without a cache can keep.

  Attributes:
    tokens: [B, S] int32.
    lengths: [B] int32, number of tokens so far.
  """

  tokens: Array
  lengths: Array


def from_apply(
  init: Callable[[Array], Params],
  apply: Callable[[Params, Array], Array],
  head: HeadFunction | None = None,
) -> Model:
  """Makes a `Model` of two functions.

  Call this once for a module and keep the result: jit's cache recognises a
  model by its identity, so that another `Model` compiles again.

  Args:
    init: `key -> params`.
    apply: `(params, tokens [B, T]) -> [B, T, V]` logits, causal; or hidden
      states [B, T, D] where `head` is given.
    head: `params -> Head`, for example
      `lambda p: Head(weight=p["embed"]["embedding"])`. With a head, log-probs
      are computed a tile of the vocabulary at a time; without a head, `apply`
      computes whole logits.

  Returns:
    A `Model`. Its `forward` raises ValueError if it is given positions, segment
    ids or prefix ids.
  """

  def forward(
    params, tokens, positions=None, segment_ids=None, prefix_ids=None
  ):
    if any(x is not None for x in (positions, segment_ids, prefix_ids)):
      raise ValueError(
        "an adapted module takes no positions, segment ids or prefix ids"
      )
    return apply(params, tokens)

  def plain_head(params):
    del params
    return Head(weight=None, dense=lambda hidden: hidden)

  head = head or plain_head

  def init_cache(params, batch, size):
    del params
    tokens = jnp.zeros((batch, size), jnp.int32)
    return PrefixCache(tokens, jnp.zeros(batch, jnp.int32))

  def extend(params, tokens, lengths, cache):
    rows = jnp.arange(tokens.shape[0])[:, None]
    at = cache.lengths[:, None] + jnp.arange(tokens.shape[1])
    prefix = cache.tokens.at[rows, at].set(tokens, mode="drop")
    total = cache.lengths + lengths
    hidden = apply(params, prefix)
    last = jnp.maximum(total - 1, 0)[:, None, None]
    hidden = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
    return logits(head(params), hidden), PrefixCache(prefix, total)

  return Model(init, forward, head, init_cache, extend)


def from_linen(module: Any, head: HeadFunction | None = None) -> Model:
  """Makes a Flax Linen module a `Model`, whose params are its "params".

  Args:
    module: an `nn.Module` that can be called with tokens [B, T]; deterministic,
      with no collection but "params".
    head: see `from_apply`.

  Returns:
    A `Model`; see `from_apply`.
  """

  def init(key):
    return module.init(key, jnp.zeros((1, 1), jnp.int32))["params"]

  def apply(params, tokens):
    return module.apply({"params": params}, tokens)

  return from_apply(init, apply, head)


def from_nnx(module: Any, head: HeadFunction | None = None) -> Model:
  """Makes a Flax NNX module a `Model`, whose params are a plain nested dict.

  `init` returns the module's present parameters and ignores the key, because an
  NNX module is built together with its parameters.

  Args:
    module: an `nnx.Module` that can be called with tokens [B, T]; all of its
      state is taken as parameters.
    head: see `from_apply`.

  Returns:
    A `Model`; see `from_apply`.
  """
  # Imported here, because flax ties its nnx releases to single jax releases.
  from flax import nnx

  graph, state = nnx.split(module)
  params = nnx.to_pure_dict(state)

  def init(key):
    del key
    return params

  def apply(params, tokens):
    fresh = jax.tree.map(lambda x: x, state)  # a new container to write into
    nnx.replace_by_pure_dict(fresh, params)
    return nnx.merge(graph, fresh)(tokens)

  return from_apply(init, apply, head)
