"""Any Flax Linen or NNX module as a `Model`.

The module maps tokens [B, T] to logits [B, T, V], or to hidden states where a
`head` is given. It has no cache that we know of, so decoding with it runs the
whole prefix again at every step: right, and slow.
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
  """The tokens so far: all that a module without a cache can keep.

  Attributes:
    tokens: [B, S] int32.
    lengths: [B] int32.
  """

  tokens: Array
  lengths: Array


def from_apply(
  init: Callable[[Array], Params],
  apply: Callable[[Params, Array], Array],
  head: HeadFunction | None = None,
) -> Model:
  """A model of two functions.

  Call it once for a module and keep the result: jit's cache knows a model by
  identity.

  Args:
    init: `key -> params`.
    apply: `(params, tokens [B, T]) -> [B, T, V]` logits, causal; or hidden
      states [B, T, D] where `head` is given.
    head: `params -> Head`, for example
      `lambda p: Head(weight=p["embed"]["embedding"])`. With it the log-probs
      stream over the vocabulary; without it the logits exist.

  Returns:
    A `Model`. Its `forward` refuses positions and segment ids.
  """

  def forward(
    params, tokens, positions=None, segment_ids=None, prefix_ids=None
  ):
    if any(x is not None for x in (positions, segment_ids, prefix_ids)):
      raise ValueError("an adapted module takes no positions or segment ids")
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
  """A Flax Linen module as a `Model`; its params are the "params" collection.

  Args:
    module: an `nn.Module` called on tokens [B, T]; deterministic, with no
      collection but "params".
    head: see `from_apply`.
  """

  def init(key):
    return module.init(key, jnp.zeros((1, 1), jnp.int32))["params"]

  def apply(params, tokens):
    return module.apply({"params": params}, tokens)

  return from_apply(init, apply, head)


def from_nnx(module: Any, head: HeadFunction | None = None) -> Model:
  """A Flax NNX module as a `Model`; its params are a plain nested dict.

  `init` returns the module's present parameters, whatever the key: an NNX
  module is built with its own.

  Args:
    module: an `nnx.Module` called on tokens [B, T]; all of its state is taken
      as parameters.
    head: see `from_apply`.
  """
  # Imported here: flax ties its nnx releases to single jax releases.
  from flax import nnx

  graph, state = nnx.split(module)
  params = nnx.to_pure_dict(state)

  def init(key):
    del key
    return params

  def apply(params, tokens):
    fresh = jax.tree.map(lambda x: x, state)  # a new container
    nnx.replace_by_pure_dict(fresh, params)
    return nnx.merge(graph, fresh)(tokens)

  return from_apply(init, apply, head)
