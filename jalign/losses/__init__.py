"""Losses: functions from arrays to per-example arrays.

They see no model, config, tokenizer or reduction. A loss's positional
parameters are arrays with names out of VOCABULARY; its keyword-only
parameters are hyperparameters.
"""

from jalign.losses.catalogue import CATALOGUE, Entry, entry_of, resolve
from jalign.losses.compose import Term, weighted_sum
from jalign.losses.likelihood import sft, sft_avg
from jalign.losses.pairwise import (
  cpo,
  dpo,
  dpop,
  ipo,
  ipo_avg,
  ipo_soft,
  orpo,
  robust_dpo,
  simpo,
  slic_hf,
)
from jalign.losses.signature import (
  VOCABULARY,
  array_parameters,
  hyperparameters,
  name_of,
)
from jalign.losses.table import markdown_table

__all__ = [
  "CATALOGUE",
  "VOCABULARY",
  "Entry",
  "Term",
  "array_parameters",
  "cpo",
  "dpo",
  "dpop",
  "entry_of",
  "hyperparameters",
  "ipo",
  "ipo_avg",
  "ipo_soft",
  "markdown_table",
  "name_of",
  "orpo",
  "resolve",
  "robust_dpo",
  "sft",
  "sft_avg",
  "simpo",
  "slic_hf",
  "weighted_sum",
]
