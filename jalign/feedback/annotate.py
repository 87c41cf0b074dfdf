"""Annotators: who says which of two responses is better.

An annotator is a function of texts,
`(prompts, responses_a, responses_b) -> [P] P(a is preferred)`; everything here
makes one out of something simpler.
"""

from collections.abc import Callable, Sequence

import numpy as np

from jalign.errors import UserError

Texts = Sequence[str]
Annotator = Callable[[Texts, Texts, Texts], np.ndarray]
Reward = Callable[[str, str], float]


def from_reward(reward: Reward, *, scale: float = 1.0) -> Annotator:
  """Bradley-Terry preferences of a reward: sigmoid(scale * (r(a) - r(b))).

  Args:
    reward: `(prompt, response) -> float`, any plain Python function.
    scale: inverse temperature of the preferences, > 0.
  """
  if not scale > 0:
    raise UserError(f"{scale} must be > 0.", where="annotator.scale")

  def annotate(prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    score = lambda texts: np.asarray(
      [reward(x, y) for x, y in zip(prompts, texts)], np.float64
    )
    margin = scale * (score(a) - score(b))
    return _checked(0.5 * (1.0 + np.tanh(0.5 * margin)), len(prompts))

  return annotate


def from_preference(preference: Callable[[str, str, str], float]) -> Annotator:
  """An annotator of a function of one prompt and two responses.

  Args:
    preference: `(prompt, a, b) -> P(a is preferred)` in [0, 1]; it may be
      intransitive.
  """

  def annotate(prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    values = [preference(x, y, z) for x, y, z in zip(prompts, a, b)]
    return _checked(np.asarray(values, np.float64), len(prompts))

  return annotate


def from_batch(preferences: Annotator) -> Annotator:
  """An annotator of a function of many prompts at once.

  Args:
    preferences: `(prompts, a, b) -> [P] P(a is preferred)` in [0, 1].
  """

  def annotate(prompts: Texts, a: Texts, b: Texts) -> np.ndarray:
    values = np.asarray(preferences(prompts, a, b), np.float64)
    return _checked(values, len(prompts))

  return annotate


def _checked(preferences: np.ndarray, count: int) -> np.ndarray:
  if preferences.shape != (count,):
    raise UserError(
      f"gave shape {preferences.shape} for {count} pairs.", where="annotator"
    )
  bad = ~((preferences >= 0) & (preferences <= 1))  # NaN is bad too
  if bad.any():
    at = int(np.flatnonzero(bad)[0])
    raise UserError(
      f"gave {preferences[at]} for pair {at} of its batch.",
      where="annotator",
      remedy="Rewards must be finite, preferences in [0, 1].",
    )
  return preferences.astype(np.float32)
