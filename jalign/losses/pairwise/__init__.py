"""Losses on preference pairs."""

from jalign.losses.pairwise.margin import slic_hf
from jalign.losses.pairwise.sigmoid import (
  cpo,
  dpo,
  dpop,
  orpo,
  robust_dpo,
  simpo,
)
from jalign.losses.pairwise.squared import ipo, ipo_avg, ipo_soft

__all__ = [
  "cpo",
  "dpo",
  "dpop",
  "ipo",
  "ipo_avg",
  "ipo_soft",
  "orpo",
  "robust_dpo",
  "simpo",
  "slic_hf",
]
