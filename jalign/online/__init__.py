"""Online alignment: algorithms are rows of `ALGORITHMS`, with pure functions.

A round draws responses to prompts, has them judged, and arranges them into the
batches of its updates. The update itself is the one of offline training.
"""

from jalign.online.algorithm import Algorithm
from jalign.online.algorithms import ALGORITHMS
from jalign.online.arrange import (
  Judged,
  drawn_pairs,
  first_responses,
  soft_pairs,
)
from jalign.online.carry import (
  NO_CARRY,
  Carry,
  StepTaken,
  beside_carry,
  carry_shardings,
  init_carry,
  make_finish,
)
from jalign.online.draws import (
  GREEDY,
  MIXTURE,
  POLICY,
  REFERENCE,
  Cast,
  DecoderRun,
  Draw,
  decoder_runs,
  draw_responses,
  of_reference,
)
from jalign.online.iterate import Round, make_round, response_texts
from jalign.online.judging import Needs, check_judge, every_pair
from jalign.online.settings import bind, hyperparameters
from jalign.online.told import told
from jalign.online.trial import try_out
from jalign.online.updates import Updates

__all__ = [
  "ALGORITHMS",
  "GREEDY",
  "MIXTURE",
  "NO_CARRY",
  "POLICY",
  "REFERENCE",
  "Algorithm",
  "Carry",
  "Cast",
  "DecoderRun",
  "Draw",
  "Judged",
  "Needs",
  "Round",
  "StepTaken",
  "Updates",
  "beside_carry",
  "bind",
  "carry_shardings",
  "check_judge",
  "decoder_runs",
  "draw_responses",
  "drawn_pairs",
  "every_pair",
  "first_responses",
  "hyperparameters",
  "init_carry",
  "make_finish",
  "make_round",
  "of_reference",
  "response_texts",
  "soft_pairs",
  "told",
  "try_out",
]
