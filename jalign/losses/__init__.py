"""Losses: functions from arrays to per-example arrays.

They see no model, config, tokenizer or reduction. A loss's positional
parameters are arrays with names out of VOCABULARY; its keyword-only
parameters are hyperparameters.
"""

from jalign.losses.catalogue import CATALOGUE, Entry, entry_of, resolve
from jalign.losses.coefficients import COEFFICIENTS, coefficients_of
from jalign.losses.compose import Term, weighted_sum
from jalign.losses.likelihood import sft, sft_avg
from jalign.losses.pairwise import (
  alpha_po,
  aot_paired,
  apo_down,
  apo_zero,
  asft,
  cpo,
  discopop,
  dpo,
  dpo_length_normalized,
  dpo_soft,
  dpop,
  exo,
  f_dpo_alpha,
  f_dpo_forward_kl,
  f_dpo_js,
  ipo,
  ipo_avg,
  ipo_soft,
  nca,
  odpo,
  orpo,
  r_dpo,
  robust_dpo,
  simpo,
  slic_hf,
  slic_ratio,
  sppo,
  sppo_soft,
)
from jalign.losses.signature import (
  VOCABULARY,
  array_parameters,
  formula_of,
  hyperparameters,
  name_of,
)
from jalign.losses.table import markdown_table

__all__ = [
  "CATALOGUE",
  "COEFFICIENTS",
  "VOCABULARY",
  "Entry",
  "Term",
  "alpha_po",
  "aot_paired",
  "apo_down",
  "apo_zero",
  "array_parameters",
  "asft",
  "coefficients_of",
  "cpo",
  "discopop",
  "dpo",
  "dpo_length_normalized",
  "dpo_soft",
  "dpop",
  "entry_of",
  "exo",
  "f_dpo_alpha",
  "f_dpo_forward_kl",
  "f_dpo_js",
  "formula_of",
  "hyperparameters",
  "ipo",
  "ipo_avg",
  "ipo_soft",
  "markdown_table",
  "name_of",
  "nca",
  "odpo",
  "orpo",
  "r_dpo",
  "resolve",
  "robust_dpo",
  "sft",
  "sft_avg",
  "simpo",
  "slic_hf",
  "slic_ratio",
  "sppo",
  "sppo_soft",
  "weighted_sum",
]
