"""Feedback: judges of responses, and the rewards and preferences they give."""

from jalign.feedback.answers import Answers, make_answers
from jalign.feedback.judge import (
  Judge,
  Parts,
  from_batch,
  from_cost,
  from_parts,
  from_preference,
  from_reward,
  from_rewards,
  on_tokens,
)
from jalign.feedback.rewards import (
  Assessed,
  assess,
  compare,
  reward_statistics,
)

__all__ = [
  "assess",
  "compare",
  "make_answers",
  "reward_statistics",
  "Answers",
  "Assessed",
  "Judge",
  "Parts",
  "from_batch",
  "from_cost",
  "from_parts",
  "from_preference",
  "from_reward",
  "from_rewards",
  "on_tokens",
]
