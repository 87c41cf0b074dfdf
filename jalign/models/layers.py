"""A transformer's layers except attention, as functions.

For the shape letters see jalign.types.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from jalign.models.lowrank import LowRank
from jalign.products import matmul, product
from jalign.types import Array


class Transposed(struct.PyTreeNode):
  """A weight that is stored as [*outputs, *inputs].

  XLA:CPU multiplies a few rows faster by such a weight, if the weights are
  larger than the CPU's caches (experiments/bench/products.py).
  """

  weight: Array


def project(
  x: Array, weight: Array | LowRank | Transposed, axes: int = 1
) -> Array:
  """Contracts the last `axes` axes of x with the first `axes` of a weight.

  Both arrays are flattened to matrices: with three axes XLA:CPU transposes the
  operands of the backward products element by element, which doubled the time
  of a step.

  Args:
    x: [..., *inputs].
    weight: [*inputs, *outputs], or a LowRank or Transposed weight.
    axes: number of the inputs' axes.

  Returns:
    [..., *outputs] in x's dtype.
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
    out = product(matrix, weight.reshape(width, -1))
  return out.astype(x.dtype).reshape(*rows, *outer)


def rms_norm(x: Array, scale: Array, eps: float, offset: bool = False) -> Array:
  """Root mean square norm over as many last axes as `scale` has.

  The norm is computed in float32 and returned in x's dtype. With `offset`
  (Gemma) the factor is 1 + scale, and is applied before rounding to x's dtype.
  """
  axes = tuple(range(-scale.ndim, 0))
  y = x.astype(jnp.float32)
  y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), axes, keepdims=True) + eps)
  if offset:
    return (y * (1.0 + scale.astype(jnp.float32))).astype(x.dtype)
  return y.astype(x.dtype) * scale.astype(x.dtype)


def layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
  """Layer norm over the last axis, computed in float32; in x's dtype."""
  y = x.astype(jnp.float32)
  y -= jnp.mean(y, -1, keepdims=True)
  y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + eps)
  return (y * scale + bias).astype(x.dtype)


ACTIVATIONS = {
  "silu": jax.nn.silu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_pytorch_tanh": jax.nn.gelu,
  "gelu_new": jax.nn.gelu,  # GPT-2's name for gelu_pytorch_tanh
  "relu": jax.nn.relu,
}
