"""An mlp of experts: each token goes to a few experts, and none is dropped.

Shazeer et al. 2017, arXiv:1701.06538; Jiang et al. 2024 (Mixtral),
arXiv:2401.04088.
"""

import jax
import jax.numpy as jnp

from jalign.models import layers
from jalign.models.config import ModelConfig
from jalign.sharding import dividing, mesh_axes
from jalign.types import Array, Params


def route(x: Array, router: Array, c: ModelConfig) -> tuple[Array, Array]:
  """Chooses the experts of each token.

  All is computed in float32, because choosing another expert changes the
  output a lot.

  Args:
    x: [N, D] states of the tokens.
    router: [D, X] weights of X experts.
    c: the model's config.

  Returns:
    float32 factors of, and int32 indices of, the K experts of each token, [N,
    K] each.
  """
  scores = jnp.matmul(
    x.astype(jnp.float32),
    router.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  top, chosen = jax.lax.top_k(jax.nn.softmax(scores, -1), c.num_experts_per_tok)
  if c.norm_topk_prob:
    top /= jnp.sum(top, -1, keepdims=True)
  return top, chosen


def mlp(p: Params, x: Array, c: ModelConfig) -> Array:
  """Applies a layer's experts to x [B, T, D].

  No loss that balances the experts is added. On a mesh, each device sorts the
  tokens of its own rows and has a part of every expert's inner width, so that
  no token moves to another device.
  """
  gate, up, down = (p[name].astype(x.dtype) for name in ("gate", "up", "down"))
  arrays = x, p["router"], gate, up, down
  if jax.sharding.get_abstract_mesh().empty:
    return _grouped(c, *arrays)
  batch = dividing(mesh_axes(("batch",), c.rules)[0], x.shape[0])
  inner = dividing(mesh_axes(("mlp",), c.rules)[0], c.intermediate_size)

  def local(*arrays):
    out = _grouped(c, *arrays)
    return out if inner is None else jax.lax.psum(out, inner)

  spec = jax.sharding.PartitionSpec
  columns, rows = spec(None, None, inner), spec(None, inner)
  return jax.shard_map(
    local,
    in_specs=(spec(batch), spec(), columns, columns, rows),
    out_specs=spec(batch),
    check_vma=False,
  )(*arrays)


def _grouped(c, x, router, gate, up, down):
  """Sorts tokens by expert, so that each expert has one product per weight."""
  rows = x.reshape(-1, x.shape[-1])
  factors, chosen = route(rows, router, c)
  order = jnp.argsort(chosen.reshape(-1), stable=True)
  counts = jnp.bincount(chosen.reshape(-1), length=c.num_experts)

  def product(a, weight):
    out = jax.lax.ragged_dot(
      a, weight, counts, preferred_element_type=jnp.float32
    )
    return out.astype(x.dtype)

  taken = rows[order // c.num_experts_per_tok]
  inner = layers.ACTIVATIONS[c.hidden_act](product(taken, gate))
  out = product(inner * product(taken, up), down)
  back = out[jnp.argsort(order)].reshape(*chosen.shape, -1)
  total = jnp.sum(back.astype(jnp.float32) * factors[..., None], 1)
  return total.astype(x.dtype).reshape(x.shape)
