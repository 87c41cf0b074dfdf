"""What every round of an online algorithm measures."""

import numpy as np

from jalign.feedback import reward_statistics
from jalign.online.algorithm import Algorithm
from jalign.online.draws import POLICY
from jalign.online.judging import Verdict
from jalign.sharding import fetch
from jalign.types import Rollout


def measured(
  algorithm: Algorithm,
  live: np.ndarray,
  rollout: Rollout,
  responses: list[str],
  verdict: Verdict,
) -> dict[str, float]:
  """Metrics of a round, over the prompts that don't just fill the batch."""
  draws = algorithm.draws
  pairs = algorithm.needs.pairs(len(draws))
  rows = np.repeat(live, len(draws))
  tokens, lengths, finished = fetch(
    (
      rollout.sequences.mask.sum(-1),
      rollout.sequences.lengths,
      rollout.finished,
    )
  )
  texts = np.asarray(responses, object)[rows]
  slots = len(texts) * rollout.sequences.tokens.shape[1]
  values = {
    "response_tokens": float(np.mean(tokens[rows])),
    "finished_share": float(np.mean(finished[rows])),
    "empty_share": float(np.mean(texts == "")),
    "padding_share": 1 - float(np.sum(lengths[rows])) / slots,
  }
  if not verdict.assessed.answers_all:
    values["unanswered_share"] = float(np.mean(~verdict.answered[live]))
  # Of prompts without an answer the preference says nothing.
  preference = verdict.preference[live & verdict.answered]
  if pairs:
    by_draw = texts.reshape(-1, len(draws)).T
    same = [by_draw[i] == by_draw[j] for i, j in pairs]
    values |= {
      "preference_certainty": float(np.mean(np.abs(2 * preference - 1))),
      "identical_pairs_share": float(np.mean(same)),
    }
  if algorithm.needs.reward and verdict.rewards is not None:
    rewards = verdict.rewards[live & verdict.answered]
    if rewards.shape[1] > 1:  # else there is nothing to be equal to
      equal = np.ptp(rewards, axis=1) == 0
      values["equal_rewards_share"] = float(np.mean(equal))
  counted = verdict.assessed.take(np.flatnonzero(np.tile(live, len(draws))))
  values |= reward_statistics(
    counted, np.tile(np.flatnonzero(live), len(draws))
  )
  over: dict[str, list[np.ndarray]] = {}
  for at, (i, j) in enumerate(pairs):
    if draws[i].name != draws[j].name:
      name = f"win_rate_over_{draws[j].name}"
      over.setdefault(name, []).append(preference[:, at])
  return values | {name: float(np.mean(rates)) for name, rates in over.items()}


def divergence(
  algorithm: Algorithm, live: np.ndarray, ratios: np.ndarray
) -> dict[str, float]:
  """Mean of log-ratios [P * K] over the responses that the policy has drawn.

  There is no metric if the policy has drawn no response.
  """
  places = [k for k, draw in enumerate(algorithm.draws) if draw == POLICY]
  if not places:
    return {}
  by_prompt = ratios.reshape(len(live), -1)[live]
  return {"kl_k1_nats": float(np.mean(by_prompt[:, places]))}
