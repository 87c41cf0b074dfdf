"""Losses on the likelihood of single responses."""

from jalign.losses.likelihood.advantage import (
  a_lol,
  a_lol_kl,
  a_lol_ref_free,
  a_lol_seq,
  r_lol,
)
from jalign.losses.likelihood.contrast import cut, poft
from jalign.losses.likelihood.sft import sft, sft_avg, sft_sum
from jalign.losses.likelihood.unlikelihood import (
  previous_token_candidates,
  repeated_ngrams,
  unlikelihood,
  unlikelihood_sequence,
)

__all__ = [
  "a_lol",
  "a_lol_kl",
  "a_lol_ref_free",
  "a_lol_seq",
  "cut",
  "poft",
  "previous_token_candidates",
  "r_lol",
  "repeated_ngrams",
  "sft",
  "sft_avg",
  "sft_sum",
  "unlikelihood",
  "unlikelihood_sequence",
]
