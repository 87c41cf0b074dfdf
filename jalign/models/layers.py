"""Layers of a transformer but attention, as functions.

Letters: see jalign.types.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from jalign.models.lowrank import LowRank
from jalign.products import matmul
from jalign.types import Array


class Transposed(struct.PyTreeNode):
  """A weight held [*outputs, *inputs].

  XLA:CPU multiplies a few rows by it faster, once weights are larger than its
  caches (experiments/bench/products.py).
  """

  weight: Array


def project(
  x: Array, weight: Array | LowRank | Transposed, axes: int = 1
) -> Array:
  """Contracts x's last `axes` axes with the first of a weight, in x's dtype.

  Both are flattened to matrices: with three axes XLA:CPU transposes the
  operands of the backward products element by element, which doubled the time
  of a step.
  """
  if isinstance(weight, LowRank):
    change = project(project(x, weight.a, axes), weight.b)
    out = project(x, weight.weight, axes)
    out += jnp.asarray(weight.scale, x.dtype) * change
    return out if weight.magnitude is None else out * weight.gain(x.dtype)
  rows, width = x.shape[:-axes], math.prod(x.shape[-axes:])
  matrix = x.reshape(-1, width)
  if isinstance(weight, Transposed):
    outer = weight.weight.shape[:-axes]
    weight = weight.weight.astype(x.dtype).reshape(-1, width)
    out = matmul(matrix, weight, transposed=True)
  else:
    outer = weight.shape[axes:]
    out = matmul(matrix, weight.astype(x.dtype).reshape(width, -1))
  return out.astype(x.dtype).reshape(*rows, *outer)


def rms_norm(x: Array, scale: Array, eps: float, offset: bool = False) -> Array:
  """Root mean square norm over as many last axes as `scale` has, in float32.

  With `offset` (Gemma) the factor is 1 + scale, applied before rounding.
  """
  axes = tuple(range(-scale.ndim, 0))
  y = x.astype(jnp.float32)
  y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), axes, keepdims=True) + eps)
  if offset:
    return (y * (1.0 + scale.astype(jnp.float32))).astype(x.dtype)
  return y.astype(x.dtype) * scale.astype(x.dtype)


def layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
  """Norm of mean 0 and variance 1 over the last axis, in float32."""
  y = x.astype(jnp.float32)
  y -= jnp.mean(y, -1, keepdims=True)
  y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + eps)
  return (y * scale + bias).astype(x.dtype)


ACTIVATIONS = {
  "silu": jax.nn.silu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_pytorch_tanh": jax.nn.gelu,
  "gelu_new": jax.nn.gelu,  # the same by the name that GPT-2 has for it
  "relu": jax.nn.relu,
}


def embed(table: Array, tokens: Array, dtype: str) -> Array:
  """Rows [B, T, D] of the table [V, D]."""
  rows = jnp.take(table, tokens, axis=0)
  # The barrier keeps XLA from converting the whole table inside a loop.
  return jax.lax.optimization_barrier(rows).astype(dtype)
