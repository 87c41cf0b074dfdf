"""Annotators: who says which of two responses is better.

An annotator is a function of texts,
`(prompts, responses_a, responses_b) -> [P] P(a is preferred)`; everything here
makes one out of something simpler.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from jalign.errors import UserError
from jalign.feedback.values import vector

Texts = Sequence[str]
Annotator = Callable[[Texts, Texts, Texts], np.ndarray]
Reward = Callable[[str, str], float]


@dataclasses.dataclass(frozen=True)
class ByReward:
  """An annotator of a reward: P(a preferred) = sigmoid(scale (r(a) - r(b))).

  Who compares several times, or reports rewards, calls `rewards` once a
  response and `compare` on the numbers.

  Attributes:
    rewards: `(prompts, responses) -> [P] float64`, finite.
    scale: inverse temperature of the preferences, > 0.
  """

  rewards: Callable[[Texts, Texts], np.ndarray]
  scale: float

  def compare(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[P] Bradley-Terry preferences, float32, of [P] rewards each."""
    margin = self.scale * (np.asarray(a) - np.asarray(b))
    return _checked(0.5 * (1.0 + np.tanh(0.5 * margin)), len(margin))

  def __call__(self, prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    """[P] preferences of responses."""
    return self.compare(self.rewards(prompts, a), self.rewards(prompts, b))


def from_reward(reward: Reward, *, scale: float = 1.0) -> ByReward:
  """Bradley-Terry preferences of a reward: sigmoid(scale * (r(a) - r(b))).

  Args:
    reward: `(prompt, response) -> float`, any plain Python function.
    scale: inverse temperature of the preferences, > 0.
  """
  if not 0 < scale < math.inf:
    raise UserError(f"{scale} must be > 0, finite.", where="annotator.scale")

  def rewards(prompts: Texts, responses: Texts) -> np.ndarray:
    both = zip(prompts, responses, strict=True)
    found = [reward(prompt, response) for prompt, response in both]
    values = vector(found, len(found), of="responses")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
      raise UserError(
        f"gave a reward of {values[bad[0]]} for response {bad[0]} of its"
        " batch.",
        where="annotator",
        remedy="Rewards must be finite.",
      )
    return values

  return ByReward(rewards, scale)


def from_preference(preference: Callable[[str, str, str], float]) -> Annotator:
  """An annotator of a function of one prompt and two responses.

  Args:
    preference: `(prompt, a, b) -> P(a is preferred)` in [0, 1]; it may be
      intransitive.
  """

  def annotate(prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    found = [preference(*texts) for texts in zip(prompts, a, b, strict=True)]
    return _checked(vector(found, len(found)), len(prompts))

  return annotate


def from_batch(preferences: Annotator) -> Annotator:
  """An annotator of a function of many prompts at once.

  Args:
    preferences: `(prompts, a, b) -> [P] P(a is preferred)` in [0, 1].
  """

  def annotate(prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    found = preferences(list(prompts), list(a), list(b))  # it may sort them
    return _checked(vector(found, len(prompts)), len(prompts))

  return annotate


def _checked(preferences: np.ndarray, count: int) -> np.ndarray:
  assert preferences.shape == (count,)
  bad = ~((preferences >= 0) & (preferences <= 1))  # NaN is bad too
  if bad.any():
    at = int(np.flatnonzero(bad)[0])
    raise UserError(
      f"gave {preferences[at]} for pair {at} of its batch.",
      where="annotator",
      remedy="Preferences must be in [0, 1].",
    )
  return preferences.astype(np.float32)
