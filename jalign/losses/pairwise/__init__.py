"""Losses on preference pairs."""

from jalign.losses.pairwise.anchored import (
  bco,
  bco_shift_update,
)
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
from jalign.losses.pairwise.objectives import (
  flex_dpo,
  mm_dpo,
  modpo,
)
from jalign.losses.pairwise.odds import (
  asft,
  orpo,
)
from jalign.losses.pairwise.offset import (
  dpo_length_normalized,
  odpo,
  r_dpo,
)
from jalign.losses.pairwise.optimal_transport import (
  aot_paired,
  aot_unpaired,
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
from jalign.losses.pairwise.third import (
  rationale_dpo,
  rationale_dpo_logsigmoid,
  selm,
  tpo,
  tpo_l,
)
from jalign.losses.pairwise.tokenwise import (
  ld_dpo,
  shared_logps,
  wpo,
  wpo_weights,
)

__all__ = [
  "alpha_po",
  "aot_paired",
  "aot_unpaired",
  "apo_down",
  "apo_zero",
  "asft",
  "bco",
  "bco_shift_update",
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
  "flex_dpo",
  "ipo",
  "ipo_avg",
  "ipo_soft",
  "ld_dpo",
  "mm_dpo",
  "modpo",
  "nca",
  "odpo",
  "orpo",
  "r_dpo",
  "rationale_dpo",
  "rationale_dpo_logsigmoid",
  "robust_dpo",
  "selm",
  "shared_logps",
  "simpo",
  "slic_hf",
  "slic_ratio",
  "sppo",
  "sppo_soft",
  "tpo",
  "tpo_l",
  "wpo",
  "wpo_weights",
]
