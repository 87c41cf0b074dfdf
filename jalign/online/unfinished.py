"""The reward of a response that the length limit has cut off."""

from typing import NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.feedback import Judge


class Unfinished(NamedTuple):
  """What a response gets that didn't end by itself.

  The change is made to the judge's reward before preferences follow from it. A
  fixed reward makes the zero of the judge's rewards matter: shifted rewards
  have another optimum.

  Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO",
  arXiv:2403.17031, give unfinished responses -1.

  Attributes:
    replace: whether `reward` stands in place of the judge's reward.
    reward: the fixed reward, if it does.
    penalty: a number that is subtracted, >= 0.
  """

  replace: bool = False
  reward: float = -1.0
  penalty: float = 0.0

  def changes(self) -> bool:
    """Whether any reward changes."""
    return self.replace or self.penalty != 0

  def rewards(self, rewards: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """Rewards after the change; a missing reward (NaN) stays missing.

    Args:
      rewards: the judge's rewards, of any shape.
      finished: bool of the same shape.
    """
    given = np.where(np.isnan(rewards), np.nan, self.reward)
    cut = (given if self.replace else rewards) - self.penalty
    return np.where(finished, rewards, cut)

  def token_rewards(
    self, rewards: np.ndarray, finished: np.ndarray, mask: np.ndarray
  ) -> np.ndarray:
    """[R, T] rewards of tokens after the change, made to the last token.

    Args:
      rewards: [R, T] rewards of tokens.
      finished: [R] bool.
      mask: [R, T] bool, True on sampled tokens.
    """
    later = np.flip(np.cumsum(np.flip(mask, 1), 1), 1)
    last = mask & (later == 1)
    kept = np.zeros_like(rewards) if self.replace else rewards
    given = self.reward * self.replace - self.penalty
    return np.where(finished[:, None], rewards, kept + given * last)


KEPT = Unfinished()


def check_unfinished(unfinished: Unfinished, judge: Judge, where: str) -> None:
  """Raises UserError where there is no reward to change, or for bad numbers.

  Args:
    unfinished: the change.
    judge: the judge.
    where: config key, for errors.
  """
  for name in ("reward", "penalty"):
    if not np.isfinite(getattr(unfinished, name)):
      raise UserError("isn't finite.", where=f"{where}.{name}")
  if unfinished.penalty < 0:
    raise UserError(
      f"{unfinished.penalty:g} would reward a response for not ending.",
      where=f"{where}.penalty",
      remedy="Give a number >= 0.",
    )
  if not unfinished.changes():
    return
  if judge.preference is not None or judge.reward is None:
    raise UserError(
      "changes rewards, but what is compared doesn't follow from a reward of"
      " this judge.",
      where=where,
      remedy="Choose a judge of rewards, or leave the section out.",
    )
