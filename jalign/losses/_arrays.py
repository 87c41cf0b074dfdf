"""What every loss does to its arguments: types, shapes, ranges, lengths."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.types import Array

# Logs of ratios count as at most this: exp of it, times rewards in the
# thousands, is finite in float32.
MAX_LOG_RATIO = 60.0


def as_floats(*arrays: Array) -> tuple[Array, ...]:
  """Arrays of any shapes, cast to one float type: float32 at least.

  Booleans stay booleans.
  """
  arrays = tuple(jnp.asarray(x) for x in arrays)
  with jax.numpy_dtype_promotion("standard"):
    types = [x.dtype for x in arrays if x.dtype != bool]
    dtype = functools.reduce(jnp.promote_types, types, jnp.dtype("float32"))
  return tuple(x if x.dtype == bool else x.astype(dtype) for x in arrays)


def same_floats(*arrays: Array) -> tuple[Array, ...]:
  """Arrays of one value an example, [B] or [], cast as `as_floats` does.

  Raises:
    AssertionError: shapes differ, or there are more axes.
  """
  shapes = [np.shape(x) for x in arrays]
  if max(map(len, shapes)) > 1:
    raise AssertionError(
      f"the loss takes arrays [B], one value an example, not of shapes"
      f" {', '.join(map(str, shapes))}. Of token log-probs [B, T] pass the sums"
      " over the scored tokens: jnp.sum(token_logps * mask, -1)."
    )
  return equal_floats(*arrays)


def equal_floats(*arrays: Array) -> tuple[Array, ...]:
  """Arrays of one shape, whatever it is, cast as `as_floats` does."""
  arrays = tuple(jnp.asarray(x) for x in arrays)
  chex.assert_equal_shape(arrays)
  return as_floats(*arrays)


def flags(like: Array, *arrays: Array) -> tuple[Array, ...]:
  """Arrays of the shape of `like`, as booleans."""
  arrays = tuple(jnp.asarray(x) for x in arrays)
  chex.assert_equal_shape([jnp.asarray(like), *arrays])
  return tuple(x.astype(bool) for x in arrays)


def floats_with_axes(axes: str, *arrays: Array) -> tuple[Array, ...]:
  """Arrays of these axes, cast to one float type: float32 at least.

  Args:
    axes: a word for each array, a letter for each of its axes: "BT BTC B". A
      letter has one size throughout; a digit is its own size.
    *arrays: of those shapes; booleans stay booleans.

  Raises:
    AssertionError: an array has other axes.
  """
  arrays = tuple(jnp.asarray(x) for x in arrays)
  words = axes.split()
  chex.assert_rank(arrays, [len(word) for word in words])
  sizes = {digit: int(digit) for digit in axes if digit.isdigit()}
  for word, x in zip(words, arrays, strict=True):
    for letter, size in zip(word, x.shape):
      if sizes.setdefault(letter, size) != size:
        raise AssertionError(
          f"axis {letter} of {axes!r} has sizes {sizes[letter]} and {size}"
        )
  return as_floats(*arrays)


def zero_where_invalid(valid: Array, *arrays: Array) -> tuple[Array, ...]:
  """As `equal_floats`, with 0 where a response is only there to fill its list.

  Args:
    valid: bool, False for what fills the batch.
    *arrays: of valid's shape; where it is False they may hold anything, NaN
      too, and get no gradient.

  Returns:
    valid, then the arrays.
  """
  arrays = equal_floats(*arrays)
  valid = jnp.asarray(valid, bool)
  chex.assert_equal_shape((valid, arrays[0]))
  return valid, *(jnp.where(valid, x, 0) for x in arrays)


def log_ratios(*arrays: Array) -> tuple[Array, ...]:
  """Log-ratios to the reference, which is a constant.

  Args:
    *arrays: [B] log-probs of chosen and rejected responses under the policy,
      of both under the reference, then any arrays that the loss takes besides.

  Returns:
    The log-ratios of chosen and rejected, then the rest, as `same_floats` does.
  """
  chosen, rejected, ref_chosen, ref_rejected, *others = same_floats(*arrays)
  up = chosen - jax.lax.stop_gradient(ref_chosen)
  down = rejected - jax.lax.stop_gradient(ref_rejected)
  return up, down, *others


def per_token(logps: Array, lengths: Array) -> Array:
  """Means over the scored tokens; a response without any has mean `logps`."""
  return logps / jnp.maximum(lengths, 1)


def where_scored(mask: Array, *arrays: Array) -> tuple[Array, ...]:
  """Values of scored tokens or steps, and 0 elsewhere, whatever was there."""
  return tuple(jnp.where(mask, x, 0.0) for x in arrays)


def at_most(x: Array, bound: float) -> Array:
  """min(x, bound), without gradient at the bound and above."""
  return jnp.where(x >= bound, bound, x)


def log1mexp(z: Array) -> Array:
  """log(1 - exp(z)) for z < 0, where both forms and slopes are finite."""
  near = z > -math.log(2)
  # each form sees only arguments at which it has a finite slope
  close = jnp.log(-jnp.expm1(jnp.where(near, z, -0.5)))
  far = jnp.log1p(-jnp.exp(jnp.where(near, -1.0, z)))
  return jnp.where(near, close, far)


def check_range(
  name: str,
  value,
  low: float,
  high: float = math.inf,
  *,
  ends: str = "()",
) -> None:
  """Refuses a hyperparameter outside its interval.

  Only Python's and NumPy's numbers are looked at: a jax array may be traced,
  and reading one that isn't would wait for the device.

  Args:
    name: of the hyperparameter, for the message.
    value: a number or a jax array.
    low: lower end.
    high: upper end.
    ends: brackets of the interval; a square one includes its end.

  Raises:
    UserError: the number is outside, or it is no number.
  """
  if isinstance(value, np.ndarray) and value.ndim == 0:
    value = value.item()
  if isinstance(value, jax.Array | np.ndarray):
    return
  interval = f"{ends[0]}{low:g}, {high:g}{ends[1]}"
  if not isinstance(value, int | float | np.integer | np.floating):
    raise UserError(f"{name} must be a number in {interval}, not {value!r}.")
  above = value >= low if ends[0] == "[" else value > low
  below = value <= high if ends[1] == "]" else value < high
  if not (above and below):  # also for NaN
    raise UserError(f"{name} must be in {interval}, but is {value!r}.")
