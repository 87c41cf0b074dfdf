"""Win rates, accuracies, calibration and diversity, with their errors."""

from jalign.evaluation.best_of_n import best_of_n
from jalign.evaluation.calibration import (
  Reliability,
  calibration,
  reliability,
)
from jalign.evaluation.clustered import Mean, clustered_mean, clustered_share
from jalign.evaluation.diversity import distinct_n
from jalign.evaluation.reward_accuracy import (
  BayesGap,
  LengthBias,
  accuracy,
  bayes_gap,
  by_gap,
  by_length,
  by_rater,
  length_bias,
  negative_log_likelihood,
)
from jalign.evaluation.scored_pairs import (
  ScoredPairs,
  from_lists,
  from_margins,
  from_probabilities,
  from_scores,
)
from jalign.evaluation.several_scorers import (
  Ensemble,
  Objectives,
  ensemble,
  objectives,
)
from jalign.evaluation.win_rate import (
  LengthAdjusted,
  WinMatrix,
  WinRate,
  head_to_head,
  length_adjusted,
  win_matrix,
  win_rate,
)

__all__ = [
  "BayesGap",
  "Ensemble",
  "LengthAdjusted",
  "LengthBias",
  "Mean",
  "Objectives",
  "Reliability",
  "ScoredPairs",
  "WinMatrix",
  "WinRate",
  "accuracy",
  "bayes_gap",
  "best_of_n",
  "by_gap",
  "by_length",
  "by_rater",
  "calibration",
  "clustered_mean",
  "clustered_share",
  "distinct_n",
  "ensemble",
  "from_lists",
  "from_margins",
  "from_probabilities",
  "from_scores",
  "head_to_head",
  "length_adjusted",
  "length_bias",
  "negative_log_likelihood",
  "objectives",
  "reliability",
  "win_matrix",
  "win_rate",
]
