"""Win rates with their errors."""

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
  "WinMatrix",
  "WinRate",
  "head_to_head",
  "length_adjusted",
  "win_matrix",
  "win_rate",
]
