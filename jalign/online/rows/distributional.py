"""f-DPG: rows that bring the policy to a target by one of six divergences.

The target is RLHF's optimum, p(y) = ref(y) exp(r(y) / beta) / Z; or, where
`threshold` is given, the reference among responses that reach it. Z is the mean
of exp(log target - log policy) over the samples of the rounds before; the first
round takes its own samples' mean. There is one Z for all prompts, which is our
parametrisation: a constant before p leaves the point where the gradient
vanishes unchanged, as all t = pi / p are equal there. A running mean of f'(t)
is the baseline.

Go et al. 2023, "Aligning Language Models with Preferences through f-divergence
Minimization", arXiv:2302.08215.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses import CATALOGUE, Entry
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged
from jalign.online.carry import Carry, StepTaken
from jalign.online.draws import POLICY, REFERENCE
from jalign.online.judging import Needs
from jalign.online.rows.baselines import added, log_added
from jalign.online.rows.penalties import by_row, check_number, mean_of
from jalign.sharding import fetch
from jalign.types import Array, Params, SequenceBatch

_LOG_NEVER = -1e4  # log target of a response that the target excludes
_PAPER = "arXiv:2302.08215"
_DIVERGENCES = {
  "reverse_kl": "KL(policy || target), which is RLHF",
  "forward_kl": "KL(target || policy)",
  "js": "the Jensen-Shannon divergence",
  "tv": "the total variation",
  "forward_chi2": "chi-squared(target || policy)",
  "reverse_chi2": "chi-squared(policy || target)",
}


def log_weights(
  judged: Judged, beta: float, threshold: float | None
) -> np.ndarray:
  """[P, K] float64 log of the target without Z, less the policy's log-prob.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: temperature of the rewards, > 0.
    threshold: least reward of the responses that the target has; None for a
      target that is tilted by rewards.

  Raises:
    UserError: beta is out of range, or the threshold is no number.
  """
  check_number("beta", beta, 0)
  if not isinstance(threshold, int | float | None):
    raise UserError(f"{threshold!r} is not a number.", where="threshold")
  assert judged.rewards is not None  # the rows need rewards
  ratios = fetch(jnp.sum(judged.ref_token_logps - judged.old_token_logps, -1))
  ratios = ratios.astype(np.float64).reshape(judged.rewards.shape)
  if threshold is None:
    return ratios + judged.rewards / beta
  return np.where(judged.rewards >= threshold, ratios, _LOG_NEVER)


def log_z(judged: Judged, weights: np.ndarray) -> float:
  """log Z by the rounds before, or by this round where there are none."""
  kept = fetch(judged.carry["z"])
  return (
    float(kept["log_mean"]) if kept["count"] else _log_mean(judged, weights)
  )


def _log_mean(judged: Judged, weights: np.ndarray) -> float:
  """Log of the mean of exp(weights) over the prompts that count."""
  live = weights[judged.weights > 0]
  if not live.size:
    return 0.0
  top = live.max()
  return float(top + np.log(np.mean(np.exp(live - top))))


def to_target(
  judged: Judged, *, beta: float = 0.1, threshold: float | None = None
) -> SequenceBatch:
  """All responses, with log-probs under the target and the baseline.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: temperature of the rewards in the target, > 0; without effect where
      there is a threshold.
    threshold: see `log_weights`.

  Raises:
    UserError: beta is out of range.
  """
  weights = log_weights(judged, beta, threshold)
  own = jnp.sum(judged.old_token_logps, -1)
  shift = (weights - log_z(judged, weights)).reshape(-1).astype(np.float32)
  return SequenceBatch(
    judged.rollout.sequences,
    jnp.asarray(by_row(judged, weights.shape[1])),
    target_logps=own + shift,
    baselines=jnp.zeros_like(own) + judged.carry["factor"]["mean"],
  )


def measure_by(loss: Callable[..., Array]) -> Callable[..., dict[str, float]]:
  """Makes a row's `measure`: the round's log Z and the mean of f'(t)."""
  # f'(t) is what the loss has before log pi.
  slope = jax.jit(jax.vmap(jax.grad(lambda x, y: loss(x[None], y[None])[0])))

  def measure(
    judged: Judged, *, beta: float = 0.1, threshold: float | None = None
  ) -> dict[str, float]:
    """The round's own log Z, and the mean factor before log pi."""
    weights = log_weights(judged, beta, threshold)
    log_t = (log_z(judged, weights) - weights).reshape(-1).astype(np.float32)
    factors = fetch(slope(log_t, np.zeros_like(log_t)))
    return {
      "log_normaliser": _log_mean(judged, weights),
      "factor_mean": mean_of(judged, factors.reshape(weights.shape)),
    }

  return measure


def less_baseline(loss: Callable[..., Array]) -> Callable[..., Array]:
  """An f-DPG loss whose baseline is an array instead of a setting."""

  def with_baselines(
    logps: Array, target_logps: Array, baselines: Array
  ) -> Array:
    factor = jax.lax.stop_gradient(baselines)
    return loss(logps, target_logps) - factor * logps

  with_baselines.__name__ = loss.__name__
  with_baselines.__doc__ = loss.__doc__
  return with_baselines


def _begin(params: Params) -> dict[str, Any]:
  del params
  return {
    "z": {"log_mean": 0.0, "count": 0.0},
    "factor": {"mean": 0.0, "count": 0.0},
  }


def _go_on(carry: Any, taken: StepTaken) -> dict[str, Any]:
  of = taken.statistics
  return {
    "z": log_added(carry["z"], of["algorithm/log_normaliser"]),
    "factor": added(carry["factor"], of["algorithm/factor_mean"]),
  }


def _row(divergence: str, about: str) -> Algorithm:
  entry = CATALOGUE[f"f_dpg_{divergence}"]
  return Algorithm(
    (POLICY,) * 4,
    Needs(reward=True),
    to_target,
    Entry(
      less_baseline(entry.function),
      entry.batch,
      entry.paper,
      monotone=False,
      detached=True,
    ),
    _PAPER,
    measure=measure_by(entry.function),
    scored=(REFERENCE,),
    carry=Carry(_begin, _go_on),
    samples=(1, None),
    about=f"towards RLHF's optimum by {about}",
  )


ROWS = {f"f_dpg_{name}": _row(name, why) for name, why in _DIVERGENCES.items()}
