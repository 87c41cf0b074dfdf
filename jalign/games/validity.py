"""Checks of games, policies and weights, where their values are concrete."""

import math
from typing import Any

import jax
import numpy as np

from jalign.errors import UserError

# Largest differences of P + P^T and 1 by rounding, in float32 and in float64.
ROUNDING, EXACT = 1e-6, 1e-15


def check_game(
  preferences: Any, reference: Any = None, tau: Any = None
) -> bool:
  """Refuses a game unless P + P^T = 1, 0 <= P <= 1, reference > 0 and tau > 0.

  Args:
    preferences: [..., n, n]; P + P^T may differ from 1 by 1e-6, and P may be
      outside [0, 1] by as much.
    reference: [..., n] probabilities, all positive; None for an unregularised
      game, which has no tau either.
    tau: strength of the pull to the reference, > 0 and finite.

  Returns:
    Whether P + P^T is known to be 1 up to float64's rounding.

  Raises:
    UserError: the game isn't as described.
  """
  shape = np.shape(preferences)
  if len(shape) < 2 or shape[-1] != shape[-2] or not shape[-1]:
    raise UserError(
      f"has shape {shape}; it must be [..., n, n].", where="preferences"
    )
  if (reference is None) != (tau is None):
    raise UserError(
      "come together: both for a regularised game, neither for a plain one.",
      where="reference and tau",
    )
  exact = False
  if _concrete(preferences):
    gap = _check_preferences(np.asarray(preferences, np.float64))
    exact = gap <= EXACT
  if reference is not None:
    if np.shape(reference)[-1:] != shape[-1:]:
      raise UserError(
        f"has shape {np.shape(reference)} for {shape[-1]} actions.",
        where="reference",
      )
    check_policy(reference, "reference")
    if _concrete(reference) and not (np.asarray(reference) > 0).all():
      at = np.argwhere(~(np.asarray(reference) > 0))[0].tolist()
      raise UserError(
        f"gives action {at[-1]} no probability (index {at}).",
        where="reference",
        remedy="The KL to the reference needs full support: no probability"
        " may be 0.",
      )
    if _concrete(tau) and not _is_positive(np.asarray(tau)):
      raise UserError(
        f"{tau} must be > 0 and finite.",
        where="tau",
        remedy="Leave out reference and tau for the unregularised game.",
      )
  return exact


def _is_positive(x: np.ndarray) -> bool:
  return bool(((x > 0) & np.isfinite(x)).all())


def _check_preferences(p: np.ndarray) -> float:
  """Largest |P + P^T - 1|, which is at most `ROUNDING`; else raises."""
  asymmetry = _asymmetry(p)
  if asymmetry <= ROUNDING:
    return asymmetry
  bad = ~((p >= -ROUNDING) & (p <= 1 + ROUNDING))  # NaN is bad too
  if bad.any():
    at = tuple(np.argwhere(bad)[0].tolist())
    raise UserError(f"{p[at]} at {at} is not in [0, 1].", where="preferences")
  gap = np.abs(p + np.swapaxes(p, -1, -2) - 1)
  at = tuple(np.argwhere(gap == gap.max())[0].tolist())
  mirror = (*at[:-2], at[-1], at[-2])
  raise UserError(
    f"P + P^T must be 1, but P{list(at)} = {p[at]:.6g} and"
    f" P{list(mirror)} = {p[mirror]:.6g}.",
    where="preferences",
    remedy="(P + 1 - P^T) / 2 makes a game of any matrix.",
  )


def _asymmetry(p: np.ndarray) -> float:
  """Largest |P + P^T - 1|; infinite if that is too large or P leaves [0, 1].

  The matrix is read tile by tile, because entries of a large matrix and of its
  transpose don't share cache lines.
  """
  n, size = p.shape[-1], 256
  largest = 0.0
  for i in range(0, n, size) if p.size else ():
    for j in range(i, n, size):
      here = p[..., i : i + size, j : j + size]
      there = np.swapaxes(p[..., j : j + size, i : i + size], -1, -2)
      gap = here + there
      gap -= 1
      small = min(here.min(), there.min())
      large = max(here.max(), there.max())
      if not (small >= -ROUNDING and large <= 1 + ROUNDING):
        return math.inf
      largest = max(largest, gap.max(), -gap.min())
      if not largest <= ROUNDING:
        return math.inf
  return float(largest)


def check_policy(policy: Any, name: str = "policy") -> None:
  """Raises UserError unless a policy is a distribution over its last axis."""
  if not _concrete(policy):
    return
  p = np.asarray(policy, np.float64)
  if p.ndim < 1 or not ((p >= 0) & (p <= 1 + 1e-6)).all():
    raise UserError("has entries outside [0, 1].", where=name)
  total = p.sum(-1)
  if total.size and np.abs(total - 1).max() > 1e-5:
    far = total.flat[np.abs(total - 1).argmax()]
    raise UserError(f"sums to {far:.6g}, not to 1.", where=name)


def check_weights(weights: Any, n: int) -> None:
  """Raises UserError unless weights [..., n, n] are finite and >= 0."""
  shape = np.shape(weights)
  if shape[-2:] != (n, n):
    raise UserError(
      f"has shape {shape}; it must be [{n}, {n}] or [..., {n}, {n}].",
      where="weights",
    )
  if _concrete(weights):
    w = np.asarray(weights, np.float64)
    if not ((w >= 0) & np.isfinite(w)).all():
      raise UserError("has entries below 0 or not finite.", where="weights")


def _concrete(x: Any) -> bool:
  return not isinstance(x, jax.core.Tracer)
