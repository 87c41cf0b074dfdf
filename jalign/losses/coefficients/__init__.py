"""How hard a pairwise loss pulls on each of its two responses.

d_w = -dl / d log pi(y_w) and d_l = +dl / d log pi(y_l): a gradient step moves
the parameters along d_w grad log pi(y_w) - d_l grad log pi(y_l). With the
gradients' norms and inner product these two numbers tell which log-probs rise
(Yuan et al. 2024, "A Common Pitfall of Margin-based Language Model Alignment:
Gradient Entanglement", arXiv:2410.13828).

A function here has the name and the signature of its loss and returns (d_w,
d_l), both [B], in closed form: no loss is differentiated. Where a loss has a
kink or is held constant the coefficients are those of its gradient. Ranges of
hyperparameters are the loss's to check.
"""

import functools
from collections.abc import Callable
from typing import Any

from jalign.errors import UserError
from jalign.losses.catalogue import CATALOGUE
from jalign.losses.coefficients import (
  divergence,
  margin,
  more,
  odds,
  offset,
  reward,
  sigmoid,
  squared,
)
from jalign.losses.signature import name_of
from jalign.types import Array

COEFFICIENTS: dict[str, Callable[..., tuple[Array, Array]]] = {
  "dpo": sigmoid.dpo,
  "robust_dpo": sigmoid.robust_dpo,
  "dpop": sigmoid.dpop,
  "simpo": sigmoid.simpo,
  "cpo": sigmoid.cpo,
  "dpo_soft": sigmoid.dpo_soft,
  "ipo": squared.ipo,
  "ipo_avg": squared.ipo_avg,
  "ipo_soft": squared.ipo_soft,
  "sppo": squared.sppo,
  "sppo_soft": squared.sppo_soft,
  "f_dpo_forward_kl": divergence.f_dpo_forward_kl,
  "f_dpo_js": divergence.f_dpo_js,
  "f_dpo_alpha": divergence.f_dpo_alpha,
  "alpha_po": divergence.alpha_po,
  "r_dpo": offset.r_dpo,
  "dpo_length_normalized": offset.dpo_length_normalized,
  "odpo": offset.odpo,
  "nca": reward.nca,
  "apo_zero": reward.apo_zero,
  "apo_down": reward.apo_down,
  "exo": reward.exo,
  "discopop": reward.discopop,
  "slic_hf": margin.slic_hf,
  "slic_ratio": margin.slic_ratio,
  "orpo": odds.orpo,
  "asft": odds.asft,
  "aot_paired": more.aot_paired,
  "aot_unpaired": more.aot_unpaired,
  "bco": more.bco,
  "flex_dpo": more.flex_dpo,
  "ld_dpo": more.ld_dpo,
  "mm_dpo": more.mm_dpo,
  "modpo": more.modpo,
  "rationale_dpo": more.rationale_dpo,
  "rationale_dpo_logsigmoid": more.rationale_dpo_logsigmoid,
  "selm": more.selm,
  "tpo": more.tpo,
  "tpo_l": more.tpo_l,
  "wpo": more.wpo,
}


def coefficients_of(
  loss: Callable[..., Array],
) -> Callable[..., tuple[Array, Array]]:
  """The coefficients of a loss, with the hyperparameters that it has bound.

  Args:
    loss: a pairwise loss of the catalogue, or functools.partial of one.

  Returns:
    A function of the loss's arrays; returns (d_w, d_l), both [B].

  Raises:
    UserError: the loss has no coefficients in closed form.
  """
  if isinstance(loss, functools.partial):
    function: Any = coefficients_of(loss.func)
    return functools.partial(function, *loss.args, **loss.keywords)
  name = name_of(loss)
  if name not in COEFFICIENTS or CATALOGUE[name].function is not loss:
    raise UserError(
      f"{name} has no coefficients in closed form.",
      remedy=f"Those that have: {', '.join(COEFFICIENTS)}.",
    )
  return COEFFICIENTS[name]
