"""Rows of the metrics of a probe, on held-out pairs and of a training step."""

from jalign.glossary.row import Row, cases, sides

_PANELS, _WATCH = "diagnostics.summaries", "diagnostics.watch"
_GRADIENTS = "diagnostics.entanglement"
_PREFERENCES = "diagnostics.implicit_preferences"
_CALIBRATION = "evaluation.calibration"


PROBE: tuple[Row, ...] = (
  *(
    row
    for q in (10, 50, 90)
    for row in sides(
      f"likelihood/SIDE_log_ratio_p{q}_nats",
      "nats",
      f"{q} % quantile of the SIDE responses' log-ratios",
      _PANELS,
    )
  ),
  Row(
    "likelihood/displaced_share",
    "share",
    "pairs whose chosen response has become less likely",
    _PANELS,
  ),
  Row(
    "likelihood/both_fell_share",
    "share",
    "pairs whose two responses have both become less likely",
    _PANELS,
  ),
  Row(
    "likelihood/idealised_accuracy",
    "accuracy",
    "ranking accuracy of the policy that DPO would have at its optimum",
    _PREFERENCES,
  ),
  Row(
    "likelihood/calibration_ece",
    "probability",
    "expected calibration error of the implicit reward's preferences",
    _CALIBRATION,
  ),
  Row(
    "likelihood/calibration_mce",
    "probability",
    "the largest calibration error among the bins",
    _CALIBRATION,
  ),
  Row(
    "policy/top_k_entropy_bits",
    "bits",
    "entropy over the k likeliest next tokens, with the model's probabilities",
    "diagnostics.policy",
  ),
  Row(
    "policy/top_k_entropy_renormalised_bits",
    "bits",
    "entropy over the k likeliest next tokens, with their probabilities divided"
    " by their sum",
    "diagnostics.policy",
  ),
  Row(
    "policy/top_k_mass",
    "probability",
    "sum of the probabilities of the k likeliest next tokens",
    "diagnostics.policy",
  ),
  Row(
    "policy/kl_nats_per_token",
    "nats_per_token",
    "exact KL of the next-token distribution to the reference's",
    _PANELS,
  ),
  Row(
    "entanglement/GROUP/cosine",
    "cosine",
    "cosine of the gradients of a pair's two log-probs, by the parameters of a"
    " group; `all` is the group of all parameters",
    _GRADIENTS,
  ),
  Row(
    "entanglement/GROUP/cosine_threshold",
    "cosine",
    "the cosine below which a step of SGD on the pair is ideal",
    _GRADIENTS,
  ),
  *sides(
    "entanglement/GROUP/SIDE_norm",
    "norm",
    "norm of the gradient of the SIDE response's log-prob",
    _GRADIENTS,
  ),
  *cases(
    "entanglement/GROUP/",
    "for which the forecast of a step of SGD is",
    _GRADIENTS,
  ),
  *sides(
    "realised/SIDE_change_nats",
    "nats",
    "change of the SIDE response's log-prob by the step",
    _PANELS,
  ),
  *cases("realised/", "for which the effect of the step was", _PANELS),
  Row(
    "realised/as_forecast_share",
    "share",
    "pairs for which the step had the effect that was forecast",
    _PANELS,
  ),
  Row(
    "train/last_layer_cosine",
    "cosine",
    "cosine of the gradients of a training pair's two log-probs, by a linear"
    " map on the last states",
    _WATCH,
  ),
  Row(
    "train/last_layer_cosine_threshold",
    "cosine",
    "the cosine below which a step of SGD on the pair is ideal",
    _WATCH,
  ),
  *cases(
    "train/last_layer_", "for which the forecast of a step of SGD is", _WATCH
  ),
  Row(
    "train/last_layer_pulled_share",
    "share",
    "training pairs whose loss has a gradient by both log-probs",
    _WATCH,
  ),
)
