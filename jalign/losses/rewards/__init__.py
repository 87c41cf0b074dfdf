"""Losses that train reward, cost and preference models, and what they weigh."""

from jalign.losses.rewards.ensemble import (
  preference_strength,
  relabelled,
  score_spread,
)
from jalign.losses.rewards.preference_model import (
  general_preference,
  general_preference_score,
  order_gap,
  pairwise_preference,
  pairwise_preference_averaged,
)
from jalign.losses.rewards.scalar import (
  bradley_terry,
  bradley_terry_list,
  bradley_terry_margin,
  bradley_terry_soft,
  cost_model,
)

__all__ = [
  "bradley_terry",
  "bradley_terry_list",
  "bradley_terry_margin",
  "bradley_terry_soft",
  "cost_model",
  "general_preference",
  "general_preference_score",
  "order_gap",
  "pairwise_preference",
  "pairwise_preference_averaged",
  "preference_strength",
  "relabelled",
  "score_spread",
]
