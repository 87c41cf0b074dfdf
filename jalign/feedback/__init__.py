"""Feedback: who judges responses."""

from jalign.feedback.annotate import (
  Annotator,
  from_batch,
  from_preference,
  from_reward,
)

__all__ = ["Annotator", "from_batch", "from_preference", "from_reward"]
