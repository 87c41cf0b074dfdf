"""The curves of a stage's metrics that a report draws."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Titles of a stage's curves, which are drawn where they were measured.
CURVES = {
  "train/loss": "loss (training)",
  "eval/loss": "held-out loss",
  "train/nll_nats_per_token": "negative log-likelihood (nats/token)",
  "eval/nll_nats_per_token": "held-out NLL (nats/token)",
  "train/margin_nats": "margin of log-ratios (nats)",
  "train/reward_accuracy": "reward accuracy (training)",
  "eval/reward_accuracy": "held-out reward accuracy",
  "train/score_accuracy": "accuracy of scores (training)",
  "eval/score_accuracy": "held-out accuracy of scores",
  "train/score_nll_nats": "NLL of labels by scores (training, nats)",
  "eval/score_nll_nats": "held-out NLL of labels by scores (nats)",
  "eval/score_mean": "held-out score, mean",
  "train/chosen_log_ratio_nats": "chosen log pi/ref (nats)",
  "train/rejected_log_ratio_nats": "rejected log pi/ref (nats)",
  "samples/win_rate": "held-out win rate over the start",
  "samples/gold_win_rate": "held-out win rate by the gold judge",
  "samples/gold_reward_mean": "gold reward of held-out samples, mean",
  "samples/gold_agreement_share": "agreement of judge and gold judge",
  "samples/kl_k1_nats": "held-out KL to the start (nats)",
  "rollouts/reward_mean": "reward of training samples, mean",
  "samples/reward_mean": "reward of held-out samples, mean",
  "rollouts/reward_std": "reward of training samples, sd",
  "samples/reward_std": "reward of held-out samples, sd",
  "rollouts/reward_std_within_prompt": "reward, sd within a prompt (training)",
  "rollouts/cost_mean": "cost of training samples, mean",
  "samples/cost_mean": "cost of held-out samples, mean",
  "rollouts/cost_std": "cost of training samples, sd",
  "samples/cost_std": "cost of held-out samples, sd",
  "rollouts/cost_std_within_prompt": "cost, sd within a prompt (training)",
  "rollouts/preference_certainty": "certainty of preferences, |2p - 1|",
  "rollouts/identical_pairs_share": "identical pairs of samples, share",
  "rollouts/win_rate_over_mixture": "win rate over the mixture (training)",
  "rollouts/response_tokens": "response length (tokens)",
  "train/grad_norm": "gradient norm",
}

_WITH_UNIT = {
  f"{section}/loss": f"{section}/nll_nats_per_token"
  for section in ("train", "eval")
}


def present(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
  """The entries of CURVES that some run measured, each curve only once."""
  every = [row for rows in runs.values() for row in rows]
  seen = {key for row in every for key in row}
  for loss, nll in _WITH_UNIT.items():  # an imitating loss is the same curve
    both = [row for row in every if loss in row and nll in row]
    alike = [math.isclose(row[loss], row[nll], rel_tol=1e-4) for row in both]
    if both and all(alike) and len(both) == sum(loss in row for row in every):
      seen.discard(loss)
  return {key: label for key, label in CURVES.items() if key in seen}
