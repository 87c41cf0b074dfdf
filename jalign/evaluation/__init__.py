"""Win rates, accuracies and diversity, with their standard errors."""

from jalign.evaluation.best_of_n import best_of_n
from jalign.evaluation.clustered import Mean, clustered_mean, clustered_share
from jalign.evaluation.diversity import distinct_n
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
  "LengthAdjusted",
  "Mean",
  "WinMatrix",
  "WinRate",
  "best_of_n",
  "clustered_mean",
  "clustered_share",
  "distinct_n",
  "head_to_head",
  "length_adjusted",
  "win_matrix",
  "win_rate",
]
