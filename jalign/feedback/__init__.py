"""Feedback: who judges responses."""

from jalign.feedback.annotate import (
  Annotator,
  ByReward,
  from_batch,
  from_preference,
  from_reward,
)

__all__ = [
  "Annotator",
  "ByReward",
  "from_batch",
  "from_preference",
  "from_reward",
]
