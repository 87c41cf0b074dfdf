"""Layers of a transformer but attention, as functions.

Letters: see jalign.types.
"""

import math

import jax
import jax.numpy as jnp

from jalign.products import matmul
from jalign.types import Array


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


def gated_mlp(x: Array, gate: Array, up: Array, down: Array) -> Array:
  """SwiGLU: down(silu(gate x) * up x)."""
  return project(jax.nn.silu(project(x, gate)) * project(x, up), down)


def embed(table: Array, tokens: Array, dtype: str) -> Array:
  """Rows [B, T, D] of the table [V, D]."""
  rows = jnp.take(table, tokens, axis=0)
  # The barrier keeps XLA from converting the whole table inside a loop.
  return jax.lax.optimization_barrier(rows).astype(dtype)
