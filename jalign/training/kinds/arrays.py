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
