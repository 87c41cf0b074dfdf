"""Feedback: who judges responses."""

from jalign.feedback.annotate import (
  Annotator,
  ByReward,
  from_batch,
  from_preference,
  from_reward,
)
from jalign.feedback.rewards import assess, compare, reward_statistics

__all__ = [
  "assess",
  "compare",
  "reward_statistics",
  "Annotator",
  "ByReward",
  "from_batch",
  "from_preference",
  "from_reward",
]
