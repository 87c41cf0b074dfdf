"""Losses on preference pairs."""

from jalign.losses.pairwise.divergence import (
  alpha_po,
  f_dpo_alpha,
  f_dpo_forward_kl,
  f_dpo_js,
)
from jalign.losses.pairwise.margin import (
  slic_hf,
  slic_ratio,
)
from jalign.losses.pairwise.odds import (
  asft,
  orpo,
)
from jalign.losses.pairwise.offset import (
  aot_paired,
  dpo_length_normalized,
  odpo,
  r_dpo,
)
from jalign.losses.pairwise.reward import (
  apo_down,
  apo_zero,
  discopop,
  exo,
  nca,
)
from jalign.losses.pairwise.sigmoid import (
  cpo,
  dpo,
  dpo_soft,
  dpop,
  robust_dpo,
  simpo,
)
from jalign.losses.pairwise.squared import (
  ipo,
  ipo_avg,
  ipo_soft,
  sppo,
  sppo_soft,
)

__all__ = [
  "alpha_po",
  "aot_paired",
  "apo_down",
  "apo_zero",
  "asft",
  "cpo",
  "discopop",
  "dpo",
  "dpo_length_normalized",
  "dpo_soft",
  "dpop",
  "exo",
  "f_dpo_alpha",
  "f_dpo_forward_kl",
  "f_dpo_js",
  "ipo",
  "ipo_avg",
  "ipo_soft",
  "nca",
  "odpo",
  "orpo",
  "r_dpo",
  "robust_dpo",
  "simpo",
  "slic_hf",
  "slic_ratio",
  "sppo",
  "sppo_soft",
]
