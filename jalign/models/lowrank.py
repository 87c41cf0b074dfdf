"""A weight and a low-rank change of it, side by side."""

import jax
import jax.numpy as jnp
from flax import struct

from jalign.types import Array


class LowRank(struct.PyTreeNode):
  """The weight W + scale * A B, in place of W (LoRA).

  With a magnitude m, each output's column is then given that length (DoRA):
  m (W + scale * A B) / ||W + scale * A B||. The length under the bar is a
  constant to gradients, as section 4.3 there has it.

  Hu et al. 2021, arXiv:2106.09685, equation 3; Liu et al. 2024,
  arXiv:2402.09353, equations 5 and 11.

  Attributes:
    weight: [*inputs, *outputs], also anybody else's.
    a: [*inputs, r].
    b: [r, *outputs].
    magnitude: [*outputs] float32, or None.
    scale: factor.
  """

  weight: Array
  a: Array
  b: Array
  magnitude: Array | None = None
  scale: float = struct.field(pytree_node=False, default=1.0)

  def gain(self, dtype) -> Array:
    """[*outputs] the factor that gives each output its magnitude."""
    assert self.magnitude is not None
    length = jax.lax.stop_gradient(lengths(_sum(self), self.a.ndim - 1))
    return (self.magnitude / length).astype(dtype)


def lengths(weight: Array, inputs: int) -> Array:
  """[*outputs] float32 Euclidean norm of each output's column."""
  axes = tuple(range(inputs))
  return jnp.sqrt(jnp.sum(jnp.square(weight.astype(jnp.float32)), axes))


def whole(weight: Array | LowRank) -> Array:
  """The weight that a LowRank stands for; of another its own."""
  if not isinstance(weight, LowRank):
    return weight
  out = _sum(weight)
  if weight.magnitude is not None:
    out *= weight.gain(jnp.float32)
  return out.astype(weight.weight.dtype)


def _sum(w):
  """W + scale * A B in float32."""
  inner = w.a.shape[:-1]
  change = jnp.matmul(
    w.a.reshape(-1, w.a.shape[-1]).astype(jnp.float32),
    w.b.reshape(w.b.shape[0], -1).astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  change = change.reshape(*inner, *w.b.shape[1:])
  return w.weight.astype(jnp.float32) + w.scale * change
