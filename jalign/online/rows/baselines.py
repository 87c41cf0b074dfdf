"""Carries that keep the running mean of a number that a round measures."""

from typing import Any

import jax.numpy as jnp

from jalign.errors import UserError
from jalign.online.carry import Carry, StepTaken
from jalign.types import Params


def running_mean(name: str) -> Carry:
  """The mean of a number over the rounds so far.

  A round that subtracts the mean of the rounds before it stays unbiased,
  because the mean doesn't depend on its own samples. The carry is
  {"mean", "count"}, both [] float32 and 0 at first. `baseline_decay` is the
  factor on the weight of older rounds, in (0, 1]: with 1 all rounds count
  alike, as in Ahmadian et al. 2024; the default, 0.9, is our choice, since
  rewards rise while a policy trains.

  Args:
    name: name of the number, as in `metrics.jsonl`.
  """

  def begin(params: Params) -> dict[str, float]:
    del params
    return {"mean": 0.0, "count": 0.0}

  def go_on(
    carry: Any, taken: StepTaken, *, baseline_decay: float = 0.9
  ) -> dict[str, Any]:
    _check_decay(baseline_decay)
    return added(carry, taken.statistics[name], baseline_decay)

  return Carry(begin, go_on)


def added(carry: Any, value: Any, decay: float = 1.0) -> dict[str, Any]:
  """A running mean {"mean", "count"} after one more value."""
  count = decay * carry["count"] + 1
  return {
    "mean": carry["mean"] + (value - carry["mean"]) / count,
    "count": count,
  }


def log_added(carry: Any, log_value: Any) -> dict[str, Any]:
  """A running mean {"log_mean", "count"} of positive numbers, after one more.

  All values weigh alike. Logarithms are kept, because the numbers may be too
  large or too small for float32.
  """
  count = carry["count"] + 1
  before = carry["log_mean"] + jnp.log(carry["count"] / count)
  return {
    "log_mean": jnp.logaddexp(before, log_value - jnp.log(count)),
    "count": count,
  }


def _check_decay(decay: float) -> None:
  if not 0 < decay <= 1:
    raise UserError(f"{decay!r} must be in (0, 1].", where="baseline_decay")
