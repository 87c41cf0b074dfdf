"""Diagnostics: what a loss does to a policy, as pure functions."""

from jalign.diagnostics.entanglement import (
  ALL,
  CASES,
  Forecast,
  Products,
  case_of,
  changes,
  forecast,
  gradient_products,
  normalised_pulls,
)
from jalign.diagnostics.gram import (
  dense_logprobs,
  last_layer_gram,
  token_gram,
)
from jalign.diagnostics.policy import TopK, reversal, top_k
from jalign.diagnostics.preference import (
  Reliability,
  dpo_threshold,
  idealised_ranking,
  ipo_threshold,
  reliability,
)

__all__ = [
  "ALL",
  "CASES",
  "Forecast",
  "Products",
  "Reliability",
  "TopK",
  "case_of",
  "changes",
  "dense_logprobs",
  "dpo_threshold",
  "forecast",
  "gradient_products",
  "idealised_ranking",
  "ipo_threshold",
  "last_layer_gram",
  "normalised_pulls",
  "reliability",
  "reversal",
  "token_gram",
  "top_k",
]
