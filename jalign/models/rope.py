"""Rotary positions: the frequencies, and their scalings for long texts.

Formulas and names are those of Hugging Face's `rope_parameters`.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.models.config_ranges import SCALING
from jalign.types import Array

# Type of scaling -> its parameters and their defaults: ... for a parameter that
# has to be given, None for a value that a formula gives.
_DEFAULTS: dict[str, dict[str, Any]] = {
  "linear": {"factor": ...},
  "dynamic": {"factor": ..., "original_max_position_embeddings": ...},
  "llama3": {
    "factor": ...,
    "low_freq_factor": ...,
    "high_freq_factor": ...,
    "original_max_position_embeddings": ...,
  },
  "yarn": {
    "factor": ...,
    "original_max_position_embeddings": ...,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": None,
    "mscale": None,
    "mscale_all_dim": None,
    "truncate": True,
  },
}
SCALINGS = tuple(_DEFAULTS)


def scaling_of(given: Any) -> tuple[tuple[str, Any], ...]:
  """A scaling as sorted pairs, with defaults filled in; () for no scaling.

  Args:
    given: a mapping or pairs with "rope_type" and the parameters of that type.

  Raises:
    UserError: the type or a parameter is unknown, a parameter is missing, or a
      value is out of range.
  """
  scaling = {str(k): v for k, v in dict(given).items()}
  kind = scaling.pop("rope_type", "default")
  where = "model.rope_scaling"
  if kind == "default" and not scaling:
    return ()
  if not isinstance(kind, str) or kind not in _DEFAULTS:
    raise UserError(
      f"there is no scaling {kind!r}.",
      where=where,
      remedy=f"Choose among {', '.join(SCALINGS)}.",
    )
  known = _DEFAULTS[kind]
  unknown = sorted(scaling.keys() - known.keys())
  missing = [k for k, v in known.items() if v is ... and k not in scaling]
  if unknown or missing:
    raise UserError(
      f"{kind} "
      + "; ".join(
        f"{verb} {', '.join(names)}"
        for verb, names in (("doesn't take", unknown), ("needs", missing))
        if names
      )
      + ".",
      where=where,
    )
  whole = {**known, **scaling}
  for key, value in whole.items():
    free = known[key] is None and value is None
    if key in SCALING and not free and not SCALING[key].holds(value):
      raise UserError(f"{key} is {value!r}; it {SCALING[key]}.", where=where)
  if not isinstance(whole.get("truncate", True), bool):
    raise UserError("truncate must be true or false.", where=where)
  low, high = whole.get("low_freq_factor"), whole.get("high_freq_factor")
  if low is not None and not low < high:
    raise UserError(
      f"low_freq_factor ({low}) must be below high_freq_factor ({high}).",
      where=where,
    )
  return tuple(sorted({"rope_type": kind, **whole}.items()))


def frequencies(
  width: int,
  theta: float,
  scaling: tuple[tuple[str, Any], ...],
  lengths: Array,
) -> tuple[Array | np.ndarray, float]:
  """Radians per position of each plane, and a factor on cosines and sines.

  Args:
    width: E, even.
    theta: the base.
    scaling: a scaling as `scaling_of` returns it.
    lengths: [B] number of tokens of each row so far; only "dynamic" uses them.

  Returns:
    Radians [E / 2], or [B, 1, 1, E / 2] where they depend on the length of each
    row; and the factor.
  """
  s = dict(scaling)
  kind = s.get("rope_type", "default")
  planes = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  if kind == "dynamic":
    # The base grows with the length beyond the length of training.
    trained = s["original_max_position_embeddings"]
    longest = jnp.maximum(lengths, trained)
    grown = s["factor"] * longest / trained - (s["factor"] - 1)
    base = theta * grown.reshape(-1, 1, 1, 1) ** (width / (width - 2))
    return 1.0 / base**planes, 1.0
  plain = (1.0 / np.float32(theta) ** planes).astype(np.float32)
  if kind == "linear":
    return plain / np.float32(s["factor"]), 1.0
  if kind == "llama3":
    return _llama3(plain, s), 1.0
  if kind == "yarn":
    return _yarn(plain, width, theta, s)
  return plain, 1.0


def _llama3(plain, s):
  """Stretches long waves, keeps short waves, and interpolates between them."""
  turns = s["original_max_position_embeddings"] * plain / (2 * math.pi)
  low, high = s["low_freq_factor"], s["high_freq_factor"]
  share = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return (plain * (share + (1 - share) / s["factor"])).astype(np.float32)


def _yarn(plain, width, theta, s):
  """YaRN: stretches slow planes, keeps fast planes, with a ramp between them.

  Peng et al. 2023, arXiv:2309.00071; the ramp is linear in the plane's index.
  """
  trained, factor = s["original_max_position_embeddings"], s["factor"]

  def plane(turns):
    """Index of the plane that turns so often over the length of training."""
    waves = math.log(trained / (turns * 2 * math.pi))
    return width * waves / (2 * math.log(theta))

  low, high = plane(s["beta_fast"]), plane(s["beta_slow"])
  if s["truncate"]:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, width - 1)
  high += 0.001 if low == high else 0
  planes = np.arange(width // 2, dtype=np.float32)
  stretched = np.clip((planes - low) / (high - low), 0.0, 1.0)
  frequencies = plain * (stretched / factor + 1 - stretched)
  return frequencies.astype(np.float32), _temperature(factor, s)


def _temperature(factor, s):
  if s["attention_factor"] is not None:
    return s["attention_factor"]

  def grow(scale):
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

  if s["mscale"] and s["mscale_all_dim"]:
    return grow(s["mscale"]) / grow(s["mscale_all_dim"])
  return grow(1.0)


def rotate(
  x: Array, positions: Array, turns: Array | np.ndarray, factor: Any
) -> Array:
  """Rotates queries or keys by their positions.

  A plane is entries i and E / 2 + i of a head: halves, not neighbours.

  Args:
    x: [B, T, H, E] queries or keys.
    positions: [B, T] int32.
    turns: radians per position, as `frequencies` returns them; 0 leaves a plane
      unchanged.
    factor: factor on the cosines and sines.

  Returns:
    [B, T, H, E] in x's dtype.
  """
  angle = positions[..., None, None].astype(jnp.float32) * turns
  cos, sin = jnp.cos(angle) * factor, jnp.sin(angle) * factor
  a, b = jnp.split(x.astype(jnp.float32), 2, -1)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
  return rotated.astype(x.dtype)
