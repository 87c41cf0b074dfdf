"""Kinds whose arrays losses take, but no batch of this library gives."""

from jalign.training.kinds.kind import Kind

ERRORS = Kind(
  name="errors",
  about="denoising errors of a pair of images",
  elsewhere={
    "chosen_errors": "B",
    "rejected_errors": "B",
    "ref_chosen_errors": "B",
    "ref_rejected_errors": "B",
  },
)
RATERS = Kind(
  name="raters",
  about="pairs with a latent vector of their rater",
  elsewhere={
    "chosen_scores": "B",
    "rejected_scores": "B",
    "latent_means": "BZ",
    "latent_log_variances": "BZ",
  },
)
RATER_PAIRS = Kind(
  name="rater_pairs",
  about="pairs as one rater of the training data sees them",
  elsewhere={"chosen_scores": "B", "rejected_scores": "B"},
)
