"""Rows of the metrics of a training step and of the held-out loss."""

from jalign.glossary.row import Row, sides
from jalign.glossary.times import TIMES

_BOTH = "train|eval/"
_PAIRS, _LISTS = "training.kinds.pairs", "training.kinds.lists"
_ROLLOUTS, _SCORES = "training.kinds.rollouts", "training.kinds.score_metrics"
_CALIBRATION, _ACCURACY = "evaluation.calibration", "evaluation.reward_accuracy"
_RATERS = "training.kinds.raters"
_SEQUENCES, _UNPAIRED = "training.kinds.sequences", "training.kinds.unpaired"


TRAINING: tuple[Row, ...] = (
  Row(
    _BOTH + "loss", "loss", "the loss that is minimised", "training.objective"
  ),
  Row(
    _BOTH + "loss/TERM",
    "loss",
    "one term of a weighted sum of losses, before its weight",
    "training.objective",
  ),
  Row(
    "train/grad_norm",
    "norm",
    "norm of the gradient before it is clipped",
    "training.step",
  ),
  Row(
    "train/learning_rate",
    "rate",
    "learning rate of the step",
    "training.loop",
  ),
  *TIMES,
  *sides(
    "train|eval|likelihood/SIDE_logps_nats",
    "nats",
    "log-prob of the SIDE response",
    _PAIRS,
  ),
  *sides(
    "train|eval|likelihood/SIDE_log_ratio_nats",
    "nats",
    "log-prob of the SIDE response less the reference's",
    _PAIRS,
  ),
  Row(
    _BOTH + "margin_nats",
    "nats",
    "the chosen response's log-ratio less the rejected response's",
    _PAIRS,
  ),
  *sides(
    "train|eval|likelihood/SIDE_tokens",
    "tokens",
    "length of the SIDE response",
    _PAIRS,
  ),
  Row(
    "train|eval|likelihood/ranking_accuracy",
    "accuracy",
    "how often the better of two responses has the higher log-prob",
    _PAIRS,
  ),
  Row(
    "eval|likelihood/ranking_accuracy_per_token",
    "accuracy",
    "how often the better of two responses has the higher log-prob per token",
    "evaluation.likelihood",
  ),
  Row(
    "train|eval|likelihood/reward_accuracy",
    "accuracy",
    "how often the better of two responses has the higher log-ratio",
    _PAIRS,
  ),
  Row(
    _BOTH + "nll_nats_per_token",
    "nats_per_token",
    "negative log-likelihood of the responses, per token",
    _SEQUENCES,
  ),
  Row(
    _BOTH + "context_kl_nats_per_token",
    "nats_per_token",
    "KL from the reference behind the context to the policy without it",
    "training.kinds.distributions",
  ),
  Row(_BOTH + "response_tokens", "tokens", "length of a response", _SEQUENCES),
  Row(_BOTH + "logps_nats", "nats", "log-prob of a response", _LISTS),
  Row(
    _BOTH + "log_ratio_nats",
    "nats",
    "log-prob of a response less the reference's",
    _SEQUENCES,
  ),
  Row(
    _BOTH + "old_log_ratio_nats",
    "nats",
    "log-prob of a response less its log-prob under the policy that drew it",
    _ROLLOUTS,
  ),
  Row(
    _BOTH + "first_ratio_gap",
    "ratio",
    "how far a token's probability over its probability when it was drawn is"
    " from 1: the largest of a response, on the first update of its step, where"
    " more than rounding means that sampler and trainer disagree",
    "training.kinds.ratios",
  ),
  Row(
    _BOTH + "clipped_share",
    "share",
    "tokens whose importance ratio is outside of the clipping range",
    "training.kinds.ratios",
  ),
  Row(
    _BOTH + "repeated_share",
    "share",
    "tokens in n-grams that occurred earlier in the response",
    _SEQUENCES,
  ),
  *(
    Row(
      f"{_BOTH}{side}_{quantity}_nats",
      "nats",
      f"{said} of the {side} responses{less}",
      _UNPAIRED,
    )
    for side in ("desirable", "undesirable")
    for quantity, said, less in (
      ("logps", "log-prob", ""),
      ("log_ratio", "log-prob", " less the reference's"),
    )
  ),
  Row(
    _BOTH + "desirable_share",
    "share",
    "responses that are labelled desirable",
    _UNPAIRED,
  ),
  Row(
    _BOTH + "mismatched_log_ratio_nats",
    "nats",
    "log-prob less the reference's, of the responses to other prompts by which"
    " the loss estimates the KL",
    _UNPAIRED,
  ),
  Row(
    _BOTH + "mismatched_cut_tokens",
    "tokens",
    "tokens cut off a response that is put after another prompt",
    _UNPAIRED,
  ),
  Row(
    _BOTH + "unmatched_share",
    "share",
    "examples for which there was no response to another prompt",
    _UNPAIRED,
  ),
  Row(
    _BOTH + "best_logps_nats",
    "nats",
    "log-prob of the response with the highest score of its list",
    _LISTS,
  ),
  Row(
    _BOTH + "best_log_ratio_nats",
    "nats",
    "log-prob of the response with the highest score of its list, less the"
    " reference's",
    _LISTS,
  ),
  Row(_BOTH + "responses_count", "count", "responses to a prompt", _LISTS),
  Row(
    _BOTH + "reward_mean",
    "score",
    "mean reward of the responses that a step learns from",
    _ROLLOUTS,
  ),
  Row(
    _BOTH + "latent_kl_nats",
    "nats",
    "KL of the inferred rater to the prior",
    _RATERS,
  ),
  Row(
    _BOTH + "latent_active_count",
    "count",
    "coordinates of the inferred rater whose KL to the prior is above 0.01",
    _RATERS,
  ),
  Row(
    _BOTH + "context_pairs_count",
    "count",
    "other pairs of a rater from which the rater is inferred",
    _RATERS,
  ),
  Row(
    _BOTH + "score_accuracy_no_context",
    "accuracy",
    "how often the better response scores higher, where no other pair is known",
    _RATERS,
  ),
  Row(
    _BOTH + "score_accuracy_some_context",
    "accuracy",
    "how often the better response scores higher, where other pairs are known",
    _RATERS,
  ),
  Row(
    _BOTH + "rater_weight_max",
    "probability",
    "largest weight that a rater gives to a prototype",
    _RATERS,
  ),
  Row(
    _BOTH + "unseen_raters_share",
    "share",
    "pairs of raters whom the training data doesn't have",
    _RATERS,
  ),
  Row(
    "train/score_spread",
    "probability",
    "MetaRM's mean sigmoid of the gaps between scores of samples",
    "training.look_ahead",
  ),
  Row(_BOTH + "score_mean", "score", "mean score that the head gives", _SCORES),
  Row(
    _BOTH + "score_accuracy",
    "accuracy",
    "how often the head puts the better (or more harmful) of two responses"
    " first; of single responses, how often the score's sign is the label's",
    _SCORES,
  ),
  Row(
    _BOTH + "score_accuracy/NAME",
    "accuracy",
    "the same over the pairs that are labelled under an objective",
    _SCORES,
  ),
  Row(
    _BOTH + "unsafe_accuracy",
    "accuracy",
    "how often the cost is above 0 for unsafe responses and below for others",
    _SCORES,
  ),
  Row(
    _BOTH + "rating_error",
    "own",
    "mean squared error of the ratings that the head gives",
    _SCORES,
  ),
  Row(
    _BOTH + "rating_error/NAME",
    "own",
    "the same for the ratings on an objective",
    _SCORES,
  ),
  Row(
    _BOTH + "score_nll_nats",
    "nats",
    "negative log-likelihood of the labels under the head's preferences",
    _ACCURACY,
  ),
  Row(
    "eval/score_calibration_ece",
    "probability",
    "expected calibration error of the head's preferences, in ten bins of equal"
    " width of the confidence in whichever response it prefers",
    _CALIBRATION,
  ),
  Row(
    "eval/score_calibration_mce",
    "probability",
    "the largest calibration error of the head's preferences among these bins",
    _CALIBRATION,
  ),
  Row(
    "eval/score_calibration_ace",
    "probability",
    "expected calibration error of the head's preferences, in ten bins of"
    " equally many pairs",
    _CALIBRATION,
  ),
  Row(
    "eval/score_tied_share",
    "share",
    "pairs whose two responses the head finds equally good",
    _ACCURACY,
  ),
  Row(
    "eval/score_longer_share",
    "share",
    "pairs of unequal length whose longer response the head prefers",
    _ACCURACY,
  ),
  Row(
    "eval/label_longer_share",
    "share",
    "pairs of unequal length whose longer response the labels prefer",
    _ACCURACY,
  ),
  Row(
    "eval/score_bayes_accuracy",
    "accuracy",
    "expected accuracy of the exact probabilities of the labels, the best"
    " possible",
    _ACCURACY,
  ),
  Row(
    "eval/score_bayes_gap_share",
    "share",
    "the best possible accuracy less the head's expected accuracy",
    _ACCURACY,
  ),
  Row(
    "eval/score_bayes_gap_nats",
    "nats",
    "KL divergence from the exact probabilities of the labels to the head's",
    _ACCURACY,
  ),
)
