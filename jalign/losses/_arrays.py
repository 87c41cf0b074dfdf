"""How losses prepare their arguments: types, shapes, ranges, lengths."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.types import Array

# Upper bound on the logarithm of a ratio: exp(60), times rewards in the
# thousands, is finite in float32.
MAX_LOG_RATIO = 60.0


def as_floats(*arrays: Array) -> tuple[Array, ...]:
  """Casts arrays of any shapes to one float type, which is at least float32.

  Booleans stay booleans.
  """
  arrays = tuple(jnp.asarray(x) for x in arrays)
  with jax.numpy_dtype_promotion("standard"):
    types = [x.dtype for x in arrays if x.dtype != bool]
    dtype = functools.reduce(jnp.promote_types, types, jnp.dtype("float32"))
  return tuple(x if x.dtype == bool else x.astype(dtype) for x in arrays)


def same_floats(*arrays: Array) -> tuple[Array, ...]:
  """Casts arrays [B] or [], with one value per example, as `as_floats` does.

  Raises:
    AssertionError: shapes differ, or an array has more axes.
  """
  shapes = [np.shape(x) for x in arrays]
  if max(map(len, shapes)) > 1:
    raise AssertionError(
      f"the loss takes arrays [B], one value per example, not arrays of shapes"
      f" {', '.join(map(str, shapes))}. Instead of token log-probs [B, T] pass"
      " their sums over the scored tokens: jnp.sum(token_logps * mask, -1)."
    )
  return equal_floats(*arrays)


def equal_floats(*arrays: Array) -> tuple[Array, ...]:
  """Casts arrays that share one shape as `as_floats` does.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = tuple(jnp.asarray(x) for x in arrays)
  chex.assert_equal_shape(arrays)
  return as_floats(*arrays)


def flags(like: Array, *arrays: Array) -> tuple[Array, ...]:
  """Casts arrays, which have the shape of `like`, to booleans.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = tuple(jnp.asarray(x) for x in arrays)
  chex.assert_equal_shape([jnp.asarray(like), *arrays])
  return tuple(x.astype(bool) for x in arrays)


def floats_with_axes(axes: str, *arrays: Array) -> tuple[Array, ...]:
  """Checks the axes of arrays and casts the arrays as `as_floats` does.

  Args:
    axes: a word for each array with a letter for each axis: "BT BTC B". A
      letter stands for the same size in all words; a digit is a size itself.
    *arrays: arrays with those axes; booleans stay booleans.

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
  """As `equal_floats`, with 0 where a response only fills its list.

  Args:
    valid: bool, False for entries that only fill a list or a batch.
    *arrays: arrays of valid's shape. Where valid is False they may hold
      anything, even NaN, and get no gradient.

  Returns:
    valid, then the arrays.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = equal_floats(*arrays)
  valid = jnp.asarray(valid, bool)
  chex.assert_equal_shape((valid, arrays[0]))
  return valid, *(jnp.where(valid, x, 0) for x in arrays)


def log_ratios(*arrays: Array) -> tuple[Array, ...]:
  """Log-ratios of the policy to the reference, which is a constant.

  Args:
    *arrays: [B] log-probs of chosen and of rejected responses under the policy,
      of chosen and of rejected responses under the reference, then any other
      arrays that the loss takes.

  Returns:
    The log-ratios of the chosen and of the rejected responses, then the other
    arrays, all cast as `same_floats` does.

  Raises:
    AssertionError: shapes differ, or an array has more than one axis.
  """
  chosen, rejected, ref_chosen, ref_rejected, *others = same_floats(*arrays)
  up = chosen - jax.lax.stop_gradient(ref_chosen)
  down = rejected - jax.lax.stop_gradient(ref_rejected)
  return up, down, *others


def per_token(logps: Array, lengths: Array) -> Array:
  """Sums of log-probs divided by lengths, where length 0 counts as 1."""
  return logps / jnp.maximum(lengths, 1)


def where_scored(mask: Array, *arrays: Array) -> tuple[Array, ...]:
  """Replaces values where the mask is False by 0, whatever they are."""
  return tuple(jnp.where(mask, x, 0.0) for x in arrays)


def at_most(x: Array, bound: float) -> Array:
  """min(x, bound), without gradient at the bound and above."""
  return jnp.where(x >= bound, bound, x)


def log1mexp(z: Array) -> Array:
  """log(1 - exp(z)) for z < 0, exact near 0 and for very negative z."""
  near = z > -math.log(2)
  # Each form is computed only for arguments at which its gradient is finite.
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

  Only numbers of Python and NumPy are checked: a jax array may be traced, and
  reading an array that isn't traced would wait for the device.

  Args:
    name: name of the hyperparameter, for the message.
    value: a number or a jax array.
    low: lower end of the interval.
    high: upper end of the interval.
    ends: brackets of the interval; a square bracket includes its end.

  Raises:
    UserError: the number is outside the interval, or the value is no number.
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
