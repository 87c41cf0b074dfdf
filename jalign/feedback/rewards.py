"""Rewards beside preferences: asked for once a response, and described."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jalign.feedback.annotate import Annotator, ByReward, Texts, from_batch

Assessed = np.ndarray | Sequence[Any]  # rewards, or responses as they are


def assess(annotator: Annotator, prompts: Texts, responses: Texts) -> Assessed:
  """What an annotator compares of responses.

  Args:
    annotator: of `jalign.feedback`, or a function of texts.
    prompts: P.
    responses: P.

  Returns:
    [P] float64 rewards where there is a reward, the responses otherwise.
  """
  if isinstance(annotator, ByReward):
    return annotator.rewards(prompts, responses)
  return responses


def compare(
  annotator: Annotator, prompts: Texts, a: Assessed, b: Assessed
) -> np.ndarray:
  """[P] P(a is preferred) of what `assess` gave; rewards aren't asked again."""
  if isinstance(annotator, ByReward):
    return annotator.compare(np.asarray(a), np.asarray(b))
  return from_batch(annotator)(prompts, list(a), list(b))


def reward_statistics(
  assessed: Assessed, prompt_ids: Sequence[int] | np.ndarray
) -> dict[str, float]:
  """Mean and spread of what `assess` gave, in the unit of the reward.

  Args:
    assessed: [N] rewards; nothing is said of texts.
    prompt_ids: [N] number of each response's prompt, from 0.

  Returns:
    `reward_mean`; `reward_std`, over all responses, of two or more;
    `reward_std_within_prompt`, the root of the mean variance of a prompt's
    responses, where every prompt has two or more. Variances divide by n - 1.
  """
  if not isinstance(assessed, np.ndarray) or not assessed.size:
    return {}
  ids = np.asarray(prompt_ids)
  found = {"reward_mean": float(assessed.mean())}
  if assessed.size > 1:
    found["reward_std"] = float(assessed.std(ddof=1))
  groups = [assessed[ids == i] for i in np.unique(ids)]
  if min(map(len, groups)) > 1:
    variance = np.mean([group.var(ddof=1) for group in groups])
    found["reward_std_within_prompt"] = float(np.sqrt(variance))
  return found
