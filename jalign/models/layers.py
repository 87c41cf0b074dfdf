"""The six layers of a transformer, as functions. Letters: see jalign.types.

R is the number of query heads that share a key/value head, H = G * R.
"""

import math

import jax
import jax.numpy as jnp

from jalign.products import matmul
from jalign.types import Array

NEG_INF = -1e30  # finite: a fully masked row gives a mean, not a NaN


def project(x: Array, weight: Array, axes: int = 1) -> Array:
  """Contracts x's last `axes` axes with the first of a weight, in x's dtype.

  Both are flattened to matrices: with three axes XLA:CPU transposes the
  operands of the backward products element by element, which doubled the time
  of a step.
  """
  rows, inner, outer = x.shape[:-axes], x.shape[-axes:], weight.shape[axes:]
  width = math.prod(inner)
  weight = weight.astype(x.dtype).reshape(width, -1)
  out = matmul(x.reshape(-1, width), weight)
  return out.astype(x.dtype).reshape(*rows, *outer)


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
  """Root mean square norm over the last axis, in float32."""
  y = x.astype(jnp.float32)
  y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + eps)
  return y.astype(x.dtype) * scale.astype(x.dtype)


def rope(x: Array, positions: Array, theta: float) -> Array:
  """Rotates [B, T, H, E] by positions [B, T]; halves, not interleaved."""
  width = x.shape[-1]
  frequency = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
  angle = positions[..., None, None].astype(jnp.float32) * frequency
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, -1)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
  return rotated.astype(x.dtype)


def attention(q: Array, k: Array, v: Array, mask: Array) -> Array:
  """Grouped-query attention.

  Heads come before slots in keys and values, and a product has two batch axes
  and no other: XLA:CPU then takes 0.4 of the time that an einsum over
  [B, S, G, E] takes (1,024 slots), and knows the product of bfloat16.

  Args:
    q: [B, T, H, E] queries.
    k: [B, G, S, E] keys.
    v: [B, G, S, E] values.
    mask: [B, T, S] bool, True where a query may see a key.

  Returns:
    [B, T, H, E] in q's dtype; scores and softmax in float32.
  """
  batch, length, heads, width = q.shape
  groups = k.shape[1]
  ratio = heads // groups

  def product(a, b, axis):
    return jax.lax.dot_general(
      a,
      b,
      (((3,), (axis,)), ((0, 1), (0, 1))),
      preferred_element_type=jnp.float32,
    )

  q = q.reshape(batch, length, groups, ratio, width).transpose(0, 2, 3, 1, 4)
  q = q.reshape(batch, groups, ratio * length, width)
  scores = product(q, k, 3) * width**-0.5
  scores = scores.reshape(batch, groups, ratio, length, -1)
  scores = jnp.where(mask[:, None, None], scores, NEG_INF)
  weights = jax.nn.softmax(scores, -1).astype(v.dtype)
  weights = weights.reshape(batch, groups, ratio * length, -1)
  out = product(weights, v, 2).astype(q.dtype)
  out = out.reshape(batch, groups, ratio, length, width)
  return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


def gated_mlp(x: Array, gate: Array, up: Array, down: Array) -> Array:
  """SwiGLU: down(silu(gate x) * up x)."""
  return project(jax.nn.silu(project(x, gate)) * project(x, up), down)


def embed(table: Array, tokens: Array, dtype: str) -> Array:
  """Rows [B, T, D] of the table [V, D]."""
  rows = jnp.take(table, tokens, axis=0)
  # The barrier keeps XLA from converting the whole table inside a loop.
  return jax.lax.optimization_barrier(rows).astype(dtype)
