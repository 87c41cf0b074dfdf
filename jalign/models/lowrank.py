"""A weight together with its low-rank change."""

import jax
import jax.numpy as jnp
from flax import struct

from jalign.types import Array


class LowRank(struct.PyTreeNode):
  """Stands for the weight W + scale * A B in place of W (LoRA).

  With a magnitude m, each output's column is then given the length m (DoRA):
  m (W + scale * A B) / ||W + scale * A B||. The denominator is a constant to
  gradients, as in section 4.3 of the DoRA paper.

  Hu et al. 2021, arXiv:2106.09685, equation 3; Liu et al. 2024,
  arXiv:2402.09353, equations 5 and 11.

  Attributes:
    weight: W [*inputs, *outputs], an array that others may share.
    a: A [*inputs, r].
    b: B [r, *outputs].
    magnitude: m [*outputs] float32, or None.
    scale: factor on A B.
  """

  weight: Array
  a: Array
  b: Array
  magnitude: Array | None = None
  scale: float = struct.field(pytree_node=False, default=1.0)

  def gain(self, dtype) -> Array:
    """Factors [*outputs] that give each output's column its magnitude."""
    assert self.magnitude is not None
    length = jax.lax.stop_gradient(lengths(_sum(self), self.a.ndim - 1))
    return (self.magnitude / length).astype(dtype)


def lengths(weight: Array, inputs: int) -> Array:
  """Euclidean norms [*outputs], float32, of the outputs' columns.

  Args:
    weight: [*inputs, *outputs].
    inputs: number of the inputs' axes.
  """
  axes = tuple(range(inputs))
  return jnp.sqrt(jnp.sum(jnp.square(weight.astype(jnp.float32)), axes))


def whole(weight: Array | LowRank) -> Array:
  """The weight that a LowRank stands for; any other weight is unchanged."""
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
