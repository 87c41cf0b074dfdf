"""Matrix products, written so that XLA is fast on every device."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jalign.sharding import platform
from jalign.types import Array


def matmul(a: Array, b: Array, *, transposed: bool = False) -> Array:
  """Product of two matrices, accumulated and returned in float32.

  With a bfloat16 output XLA:CPU would first convert both bfloat16 operands.

  Args:
    a: [N, D].
    b: [D, K], or [K, D] where `transposed`; of a's dtype.
    transposed: whether to contract b's second axis instead of its first.

  Returns:
    [N, K] float32.
  """
  # XLA:CPU multiplies a single bfloat16 row in a loop, which is eight times as
  # slow as multiplying two rows.
  alone = a.shape[0] == 1 and a.dtype == jnp.bfloat16
  if alone and platform() == "cpu":
    a = jax.lax.optimization_barrier(jnp.concatenate([a, a]))
  out = jax.lax.dot_general(
    a,
    b,
    (((1,), (1 if transposed else 0,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  return out[:1] if alone else out


def product(a: Array, weight: Array) -> Array:
  """Product with a weight that is cast to the other matrix's dtype.

  The weight's gradient is summed in float32 and has the weight's own dtype. By
  the derivative of the cast it would be rounded to a's dtype; and where the
  rows are split over a mesh, the devices' parts would be rounded before they
  are added up.

  Args:
    a: [N, D].
    weight: [D, K].

  Returns:
    [N, K] float32.
  """
  return matmul(a, weight) if a.dtype == weight.dtype else _mixed(a, weight)


@jax.custom_jvp
def _mixed(a, weight):
  return matmul(a, weight.astype(a.dtype))


@functools.partial(_mixed.defjvp, symbolic_zeros=True)
def _mixed_jvp(primals, tangents):
  a, weight = primals
  d_a, d_weight = tangents
  low = weight.astype(a.dtype)
  parts = []
  if not isinstance(d_a, SymbolicZero):
    parts.append(matmul(d_a, low))
  if not isinstance(d_weight, SymbolicZero):
    # The weight's change isn't cast, and so neither is its gradient.
    parts.append(jax.lax.dot(a, d_weight, preferred_element_type=jnp.float32))
  return matmul(a, low), sum(parts)
