"""Diagnostics: pure functions that measure what a loss does to a policy."""

from jalign.diagnostics.entanglement import (
  ALL,
  CASES,
  SHARES,
  Forecast,
  Products,
  case_of,
  changes,
  forecast,
  gradient_products,
  normalised_pulls,
  pulls,
  pulls_of,
)
from jalign.diagnostics.gram import (
  dense_logprobs,
  last_layer_gram,
  token_gram,
)
from jalign.diagnostics.implicit_preferences import (
  RewardComparison,
  compare_rewards,
  dpo_threshold,
  idealised_ranking,
  ipo_threshold,
)
from jalign.diagnostics.policy import TopK, reversal, top_k
from jalign.diagnostics.remedy import normalised
from jalign.diagnostics.summaries import (
  entanglement_panel,
  likelihood_panel,
  policy_panel,
  realised_panel,
)
from jalign.diagnostics.watch import state_products, watch_pairs
from jalign.evaluation.calibration import Reliability, reliability

__all__ = [
  "ALL",
  "CASES",
  "SHARES",
  "Forecast",
  "Products",
  "Reliability",
  "RewardComparison",
  "TopK",
  "case_of",
  "changes",
  "compare_rewards",
  "dense_logprobs",
  "dpo_threshold",
  "entanglement_panel",
  "forecast",
  "gradient_products",
  "idealised_ranking",
  "ipo_threshold",
  "last_layer_gram",
  "likelihood_panel",
  "normalised",
  "normalised_pulls",
  "policy_panel",
  "pulls",
  "pulls_of",
  "realised_panel",
  "reliability",
  "reversal",
  "state_products",
  "token_gram",
  "top_k",
  "watch_pairs",
]
