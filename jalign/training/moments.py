"""Adam's scaling with moments that are kept in bfloat16.

Rounding to the nearest bfloat16 would freeze the second moment: its change in
an update, (1 - b2) of itself at most, is less than half of the distance of two
neighbours, 2^-8 of them, if b2 is 0.999. Moments are therefore rounded up or
down at random, so that their expectation is the float32 moment.
"""

import jax
import jax.numpy as jnp
import optax

from jalign.types import Array

DTYPES = ("float32", "bfloat16")
_KEY = 0x6D6F6D  # of every run: the randomness is only that of the rounding


def scale_by_adam(
  b1: float, b2: float, eps: float, dtype: str
) -> optax.GradientTransformation:
  """Makes `optax.scale_by_adam`, computed in float32, with stored moments.

  The roundings depend on the update and the parameter alone: a resumed run, and
  a run on another mesh, rounds in the same way.

  Args:
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: constant added to the root of the second moment.
    dtype: of the stored moments, one of DTYPES.
  """
  exact = optax.scale_by_adam(b1, b2, eps)

  def stored(state, key=None):
    # One draw of 32 bits serves both moments of a parameter.
    leaves, form = jax.tree.flatten((state.mu, state.nu))
    if dtype == "float32":
      leaves = [x.astype(jnp.float32) for x in leaves]
    elif key is None:
      leaves = [x.astype(jnp.bfloat16) for x in leaves]
    else:
      half = len(leaves) // 2
      keys = [jax.random.fold_in(key, i) for i in range(half)]
      bits = [jax.random.bits(k, x.shape) for k, x in zip(keys, leaves)]
      bits += [b >> 16 for b in bits]
      leaves = [rounded(x, b) for x, b in zip(leaves, bits)]
    mu, nu = jax.tree.unflatten(form, leaves)
    return state._replace(mu=mu, nu=nu)

  def init(params):
    return stored(exact.init(params))

  def update(grads, state, params=None):
    wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    state = state._replace(mu=wide(state.mu), nu=wide(state.nu))
    updates, state = exact.update(wide(grads), state, params)
    key = jax.random.fold_in(jax.random.key(_KEY), state.count)
    return updates, stored(state, key)

  return optax.GradientTransformation(init, update)


def rounded(x: Array, bits: Array) -> Array:
  """Rounds float32 to a neighbouring bfloat16, to the nearer one more often.

  The probability of the upper neighbour is the place of x between the two, in
  units of 2^-16 of their distance, so that the expectation is x.

  Args:
    x: float32 numbers.
    bits: uint32 of the same shape, whose lower 16 bits are random.
  """
  whole = jax.lax.bitcast_convert_type(x, jnp.uint32)
  up = (whole + (bits & 0xFFFF)) & jnp.uint32(0xFFFF0000)
  random = jax.lax.bitcast_convert_type(up, jnp.float32).astype(jnp.bfloat16)
  # The sum of bits would make a number of a NaN.
  return jnp.where(jnp.isfinite(x), random, x.astype(jnp.bfloat16))
