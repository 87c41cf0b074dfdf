"""Rows of the metrics of sampled responses."""

from jalign.glossary.row import Row

_HELD_OUT, _ITERATE = "experiment.held_out", "online.iterate"
_ROUND = "online.round_metrics"
_GOLD = "experiment.gold"
_REWARDS, _CONTEST = "feedback.rewards", "experiment.contest"


def _judged(name: str) -> list[Row]:
  """Makes the rows of a judge's reward or cost."""
  return [
    Row(
      f"rollouts|samples/{name}_mean",
      "score",
      f"mean {name} of the responses under the judge",
      _REWARDS,
    ),
    Row(
      f"rollouts|samples/{name}_std",
      "score",
      f"standard deviation of the {name} over all responses",
      _REWARDS,
    ),
    Row(
      f"rollouts|samples/{name}_std_within_prompt",
      "score",
      f"standard deviation of the {name} among the responses to a prompt",
      _REWARDS,
    ),
  ]


SAMPLES: tuple[Row, ...] = (
  Row(
    "rollouts|samples/response_tokens",
    "tokens",
    "mean length of the responses",
    _HELD_OUT,
  ),
  Row(
    "rollouts|samples/finished_share",
    "share",
    "responses that ended with a stop token before the longest allowed length",
    _HELD_OUT,
  ),
  Row(
    "rollouts|samples/kl_k1_nats",
    "nats",
    "KL to the reference, estimated on the responses without bias by the mean"
    " log-ratio; the estimate may be negative",
    "losses.kl",
  ),
  Row(
    "samples/kl_k3_nats",
    "nats",
    "KL to the reference, estimated by a mean of numbers that aren't negative",
    "losses.kl",
  ),
  *_judged("reward"),
  *_judged("cost"),
  Row(
    "rollouts|samples/part_NAME_mean",
    "own",
    "mean of a number that the judge's reward is made of, such as the reward of"
    " one of several judges, or whether a response gives an answer",
    _REWARDS,
  ),
  Row(
    "samples/win_rate",
    "win rate",
    "win rate over the policy that the stage started from",
    "evaluation.win_rate",
  ),
  Row(
    "samples/win_rate_length_adjusted",
    "win rate",
    "win rate over that policy at equal length, by a regression on the"
    " difference of lengths",
    "evaluation.win_rate",
  ),
  Row(
    "samples/gold_win_rate",
    "win rate",
    "win rate over the policy that the stage started from, by the gold judge,"
    " from which nothing is learned",
    _GOLD,
  ),
  *(
    Row(
      f"samples/gold_{name}_mean",
      "score",
      f"mean {name} of the responses under the gold judge",
      _GOLD,
    )
    for name in ("reward", "cost")
  ),
  Row(
    "samples/gold_unanswered_share",
    "share",
    "pairs with the start's responses about which the gold judge gives no"
    " answer",
    _GOLD,
  ),
  *(
    row
    for within, pairs in (
      ("", "pairs of a response and the start's response to the same prompt"),
      ("_within_prompt", "pairs of responses to one prompt"),
    )
    for row in (
      Row(
        f"samples/gold_agreement{within}_share",
        "share",
        f"{pairs}, of different texts, that the judge and the gold judge rank"
        " alike; a judge's tie counts half",
        _GOLD,
      ),
      Row(
        f"samples/gold_calibration{within}_ece",
        "probability",
        "expected calibration error of the judge's preferences by the gold"
        f" judge's, over {pairs}",
        _GOLD,
      ),
    )
  ),
  *(
    Row(
      f"samples/distinct_{n}_share",
      "share",
      f"share of {what} that are left when repeated {what} count once",
      "evaluation.diversity",
    )
    for n, what in ((1, "words"), (2, "pairs of neighbouring words"))
  ),
  Row(
    "rollouts|samples/unanswered_share",
    "share",
    "prompts or comparisons about which the judge gave no answer; they are left"
    " out of training and of win rates",
    _ROUND,
  ),
  Row(
    "rollouts/empty_share",
    "share",
    "responses without a word",
    _ROUND,
  ),
  Row(
    "rollouts/padding_share",
    "share",
    "slots of a round's rows, prompts included, that hold no token",
    _ROUND,
  ),
  Row(
    "rollouts/equal_rewards_share",
    "share",
    "prompts whose responses all have the same reward, which teach a method"
    " with baselines nothing",
    _ROUND,
  ),
  Row(
    "rollouts/preference_certainty",
    "probability",
    "mean |2p - 1| of the judge's preferences p between two draws",
    _ROUND,
  ),
  Row(
    "rollouts/identical_pairs_share",
    "share",
    "pairs of draws that are the same text",
    _ROUND,
  ),
  Row(
    "rollouts/win_rate_over_DRAW",
    "win rate",
    "mean win rate of another draw, mostly the policy's, over this one, such"
    " as the mixture's",
    _ROUND,
  ),
  Row(
    "algorithm/NAME", "own", "a number of the algorithm's `measure`", _ITERATE
  ),
  Row(
    "measures/NAME",
    "own",
    "mean over the responses of a measure of `config.annotator.measures`",
    _CONTEST,
  ),
)
