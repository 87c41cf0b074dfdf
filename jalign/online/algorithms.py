"""The table of online algorithms.

An algorithm is a row: who draws, what the judge is asked, what becomes of the
responses and judgements, the loss, and what it keeps from step to step. The
functions of a row are pure; their keyword-only arguments are hyperparameters.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign.losses import Entry
from jalign.online.arrange import (
  Judged,
  drawn_pairs,
  first_responses,
  soft_pairs,
)
from jalign.online.carry import NO_CARRY, Carry
from jalign.online.draws import MIXTURE, POLICY, Draw
from jalign.online.judging import Needs
from jalign.online.updates import Updates
from jalign.types import Params


def no_measures(judged: Judged) -> dict[str, float]:
  """Nothing beside what every round measures."""
  del judged
  return {}


def the_start(carry: Any, start: Params) -> Params:
  """What training starts from, for a reference that stays as it is."""
  del carry
  return start


class Algorithm(NamedTuple):
  """A row of the table.

  Attributes:
    draws: who samples each of the K responses to a prompt.
    needs: what the judge is asked.
    arrange: `(Judged, **hyperparameters) -> batch` of the kind that the loss
      takes; advantages are computed here.
    loss: name in `losses.CATALOGUE`, or a row such as are in it.
    paper: where it comes from.
    updates: how often a round is learned from.
    measure: `(Judged, **hyperparameters) -> {name: number}`, what else a round
      measures, for the metrics and for the carry.
    ref_logps: whether the reference scores the responses when they are drawn,
      for penalties that `arrange` takes off the reward; the round then
      measures `rollouts/kl_k1_nats`, of the policy's own responses.
    carry: what the algorithm keeps from step to step.
    reference: `(carry, start) -> parameters`, the reference of the loss and of
      mixtures.
  """

  draws: tuple[Draw, ...]
  needs: Needs
  arrange: Callable[..., Any]
  loss: str | Entry
  paper: str
  updates: Updates = Updates()
  measure: Callable[..., Mapping[str, float]] = no_measures
  ref_logps: bool = False
  carry: Carry = NO_CARRY
  reference: Callable[[Any, Params], Params] = the_start


_SELF_PLAY = (POLICY, POLICY)
_OF_THE_MIXTURE = (MIXTURE, MIXTURE)
_AGAINST_THE_MIXTURE = (POLICY, MIXTURE)
_A_PREFERENCE = Needs(preference=((0, 1),))
_DPO, _IPO, _NASH = "arXiv:2402.04792", "arXiv:2403.08635", "arXiv:2312.00886"

ALGORITHMS = {
  "online_dpo": Algorithm(_SELF_PLAY, _A_PREFERENCE, drawn_pairs, "dpo", _DPO),
  "online_ipo": Algorithm(
    _SELF_PLAY, _A_PREFERENCE, soft_pairs, "ipo_soft", _IPO
  ),
  "ipo_md": Algorithm(
    _OF_THE_MIXTURE, _A_PREFERENCE, soft_pairs, "ipo_soft", _IPO
  ),
  "nash_md": Algorithm(
    _AGAINST_THE_MIXTURE, _A_PREFERENCE, first_responses, "nash_md", _NASH
  ),
  "nash_md_token_kl": Algorithm(
    _AGAINST_THE_MIXTURE,
    _A_PREFERENCE,
    first_responses,
    "nash_md_token_kl",
    _NASH,
  ),
}
