"""Rows of what a probe measures, on held-out pairs and in a step."""

from jalign.glossary.row import Row, cases, sides

_PANELS, _WATCH = "diagnostics.summaries", "diagnostics.watch"
_GRADIENTS = "diagnostics.entanglement"
_PREFERENCES = "diagnostics.implicit_preferences"


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
    _PREFERENCES,
  ),
  Row(
    "likelihood/calibration_mce",
    "probability",
    "the largest calibration error among the bins",
    _PREFERENCES,
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
    "the same with these probabilities divided by their sum",
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
    "entanglement/GROUP/", "with this forecast of a step of SGD", _GRADIENTS
  ),
  *sides(
    "realised/SIDE_change_nats",
    "nats",
    "what the step added to the SIDE response's log-prob",
    _PANELS,
  ),
  *cases("realised/", "to which the step did this", _PANELS),
  Row(
    "realised/as_forecast_share",
    "share",
    "pairs to which the step did what was forecast",
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
  *cases("train/last_layer_", "with this forecast of a step of SGD", _WATCH),
  Row(
    "train/last_layer_pulled_share",
    "share",
    "training pairs whose loss has a gradient by both log-probs",
    _WATCH,
  ),
)
