"""Summaries of per-pair arrays as the few named numbers that are logged.

Names and units are rows of `jalign.glossary`.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jalign.diagnostics.entanglement import (
  SHARES,
  Forecast,
  Products,
  case_of,
)
from jalign.diagnostics.implicit_preferences import (
  idealised_ranking,
)
from jalign.diagnostics.policy import TopK
from jalign.evaluation.calibration import reliability
from jalign.evaluation.likelihood import PairScores

Panel = dict[str, float]
SURE = 1 - 1e-3  # agreement of a label without ties, as in Chen et al.
QUANTILES = (10, 50, 90)


def entanglement_panel(
  products: Products, forecasts: Mapping[str, Forecast] | None = None
) -> Panel:
  """Means over pairs, for each group of parameters.

  Args:
    products: gradient products of P pairs.
    forecasts: name of a group -> forecast; None if the loss's pulls aren't
      known.

  Returns:
    GROUP/cosine, /chosen_norm, /rejected_norm (norms of gradients of nats) and,
    with forecasts, /cosine_threshold and the share of each case.
  """
  panel = {}
  for name in products.inner:
    panel[f"{name}/cosine"] = _mean(products.cosine(name))
    panel[f"{name}/chosen_norm"] = _mean(np.sqrt(products.chosen[name]))
    panel[f"{name}/rejected_norm"] = _mean(np.sqrt(products.rejected[name]))
    if forecasts is not None:
      predicted = forecasts[name]
      panel[f"{name}/cosine_threshold"] = _mean(predicted.cosine_threshold)
      panel |= {f"{name}/{k}": v for k, v in shares(predicted.case).items()}
  return panel


def shares(case: ArrayLike) -> Panel:
  """Share of each of the four `CASES` among [P] indices."""
  cases = np.asarray(case)
  return {name: _mean(cases == i) for i, name in enumerate(SHARES)}


def realised_panel(
  chosen: ArrayLike, rejected: ArrayLike, expected: ArrayLike | None = None
) -> Panel:
  """Summary of what a real step did to pairs.

  Args:
    chosen: [P] changes of the chosen log-probs, nats.
    rejected: [P] changes of the rejected log-probs, nats.
    expected: [P] cases that were forecast; None if none were.

  Returns:
    The mean changes, the share of each case and, with `expected`, the share of
    pairs whose case was forecast. A step on other pairs, or a step of Adam,
    need not do what the forecast of SGD on one pair says.
  """
  case = np.asarray(case_of(jnp.asarray(chosen), jnp.asarray(rejected)))
  panel = {
    "chosen_change_nats": _mean(chosen),
    "rejected_change_nats": _mean(rejected),
  } | shares(case)
  if expected is not None:
    panel["as_forecast_share"] = _mean(case == np.asarray(expected))
  return panel


def likelihood_panel(
  scores: PairScores, reference: PairScores, beta: float | None = None
) -> Panel:
  """Summary of a policy's log-probs on pairs, beside the reference's.

  Args:
    scores: the policy's.
    reference: the reference's, on the same pairs.
    beta: factor that turns log-ratios into rewards, beta log(pi / ref); None
      leaves out calibration and idealised accuracy.

  Returns:
    Means and quantiles of log-ratios; the share of pairs whose chosen response
    became less likely (displaced), and of pairs both of whose responses did;
    accuracies; errors of calibration.
  """
  up = scores.chosen - reference.chosen
  down = scores.rejected - reference.rejected
  per_token = scores.chosen / np.maximum(scores.chosen_tokens, 1)
  per_token = per_token - (
    scores.rejected / np.maximum(scores.rejected_tokens, 1)
  )
  panel = {
    "chosen_logps_nats": _mean(scores.chosen),
    "rejected_logps_nats": _mean(scores.rejected),
    "chosen_tokens": _mean(scores.chosen_tokens),
    "rejected_tokens": _mean(scores.rejected_tokens),
    "chosen_log_ratio_nats": _mean(up),
    "rejected_log_ratio_nats": _mean(down),
    "displaced_share": _mean(up < 0),
    "both_fell_share": _mean((up < 0) & (down < 0)),
    "ranking_accuracy": _wins(scores.chosen - scores.rejected),
    "ranking_accuracy_per_token": _wins(per_token),
    "reward_accuracy": _wins(up - down),
  }
  for side, ratio in (("chosen", up), ("rejected", down)):
    for q, value in zip(QUANTILES, np.percentile(ratio, QUANTILES)):
      panel[f"{side}_log_ratio_p{q}_nats"] = float(value)
  if beta is not None:
    measured = reliability(beta * (up - down))
    panel |= {"calibration_ece": measured.ece, "calibration_mce": measured.mce}
    panel["idealised_accuracy"] = _mean(
      idealised_ranking(
        jnp.asarray(reference.chosen),
        jnp.asarray(reference.rejected),
        jnp.full(len(up), SURE),
        beta,
      )
    )
  return panel


def policy_panel(
  indicators: TopK, token_kl: ArrayLike, mask: ArrayLike
) -> Panel:
  """Indicators of over-optimisation, and the distance from the reference.

  Means are over the tokens of a response, then over responses, as in Shi et al.
  2024, arXiv:2410.11677.

  Args:
    indicators: [B, T] statistics from `top_k`.
    token_kl: [B, T] exact KL to the reference at each token, nats.
    mask: [B, T] bool, True on the tokens that count, at least one per row.
  """
  live = np.asarray(mask)
  count = live.sum(-1)
  mean = lambda x: _mean(np.where(live, x, 0.0).sum(-1) / count)
  return {
    "top_k_entropy_bits": mean(indicators.entropy_bits),
    "top_k_entropy_renormalised_bits": mean(indicators.renormalised_bits),
    "top_k_mass": mean(indicators.mass),
    "kl_nats_per_token": mean(token_kl),
  }


def _mean(x) -> float:
  return float(np.mean(np.asarray(x, np.float64)))


def _wins(margin) -> float:
  return _mean(0.5 + 0.5 * np.sign(margin))
