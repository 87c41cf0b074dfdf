"""A decoder-only transformer as a `Model`: pure functions of params.

The layers' parameters are stacked [L, ...] and run by one `lax.scan`, so that a
program's size and compile time don't grow with the depth.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from jalign.models import attention, cached
from jalign.models.block import block, embed, final_norm, head, kinds_of_layers
from jalign.models.config import ModelConfig
from jalign.models.spec import init_params, param_specs
from jalign.sharding import BATCH_AXES, mesh_axes
from jalign.types import Array, Layout, Model, Params

# What jax.checkpoint may keep; None for nothing. Attention's scores aren't kept
# by "dots", because their product has batch dimensions.
_POLICIES = {
  "block": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def transformer(config: ModelConfig, decode_tensor: int = 0) -> Model:
  """The model of a config; equal arguments return equal records.

  Args:
    config: the model's config.
    decode_tensor: devices along `tensor` while decoding, on the same devices as
      everything else; 0 for as many as the mesh has.
  """
  model = _transformer(config)
  layout = model.layout._replace(tensor=decode_tensor)
  return model._replace(layout=layout) if decode_tensor else model


@functools.lru_cache  # equal configs give the same functions, so one jit cache
def _transformer(config: ModelConfig) -> Model:
  return Model(
    init=functools.partial(_init, c=config),
    forward=functools.partial(_forward, c=config),
    head=functools.partial(head, c=config),
    init_cache=functools.partial(cached.init_cache, c=config),
    extend=functools.partial(cached.extend, c=config),
    prepare=functools.partial(cached.prepare, c=config),
    layout=Layout(BATCH_AXES, mesh_axes(("vocab",), config.rules)[0]),
  )


def _init(key: Array, *, c: ModelConfig) -> Params:
  return init_params(param_specs(c), key, c.param_dtype)


def _forward(
  params: Params,
  tokens: Array,
  positions: Array | None = None,
  segment_ids: Array | None = None,
  prefix_ids: Array | None = None,
  *,
  c: ModelConfig,
) -> Array:
  chex.assert_rank(tokens, 2)
  batch, length = tokens.shape
  order = jnp.arange(length, dtype=jnp.int32)
  if positions is None:
    positions = jnp.broadcast_to(order, tokens.shape)
  mask = jnp.broadcast_to(
    order[:, None] >= order[None], (batch, length, length)
  )
  if segment_ids is not None:
    seen = segment_ids[:, :, None] == segment_ids[:, None]
    if prefix_ids is not None:
      seen |= prefix_ids[:, :, None] == segment_ids[:, None]
    mask &= seen
  layer_kinds, alike = kinds_of_layers(c, jnp.max(positions, -1) + 1)
  apart = positions[:, :, None] - positions[:, None]

  def body(x, layer):
    p, kind = (layer, layer_kinds[0]) if alike else layer
    windowed = any(c.windows)
    seen = mask & (apart < kind.window) if windowed else mask

    def attend(q, k, v):
      k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
      attended = attention.over_sequence(
        q,
        k,
        v,
        seen,
        c,
        causal=prefix_ids is None and not windowed,
        segment_ids=segment_ids,
      )
      return attended, None

    return block(p, x, positions, attend, c, kind)

  if c.remat != "none":
    body = jax.checkpoint(body, policy=_POLICIES[c.remat])
  xs = params["blocks"]
  if not alike:
    xs = xs, jax.tree.map(lambda *x: jnp.stack(x), *layer_kinds)
  x = embed(params, tokens, positions, c)
  x, _ = jax.lax.scan(body, x, xs, unroll=c.scan_unroll)
  return final_norm(params, x, c)
