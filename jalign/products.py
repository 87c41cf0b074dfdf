"""Matrix products, written so that XLA is fast on every device."""

import jax
import jax.numpy as jnp

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
