"""The table of online algorithms.

An algorithm is a row of the table: which models draw responses, what the judge
is asked, how responses and judgements become a batch, the loss, and what the
algorithm keeps from step to step. The functions of a row are pure; their
keyword-only arguments are hyperparameters.
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
  """Adds nothing to what every round measures."""
  del judged
  return {}


def the_start(carry: Any, start: Params) -> Params:
  """Takes the parameters that training starts from as a fixed reference."""
  del carry
  return start


class Algorithm(NamedTuple):
  """A row of the table.

  Attributes:
    draws: for each of the K responses to a prompt, which model samples it.
    needs: what the judge is asked.
    arrange: `(Judged, **hyperparameters) -> batch` of the kind that the loss
      takes; advantages are computed here.
    loss: name of a loss in `losses.CATALOGUE`, or an `Entry` of your own.
    paper: source of the algorithm, such as an arXiv id.
    updates: how many updates a round serves, and on which prompts.
    measure: `(Judged, **hyperparameters) -> {name: number}`, what a round
      measures in addition, for the metrics and for the carry.
    ref_logps: whether the reference scores the responses when they are drawn,
      for penalties that `arrange` subtracts from the reward; the round then
      measures `rollouts/kl_k1_nats` on the policy's own responses.
    carry: state that the algorithm keeps from step to step.
    reference: `(carry, start) -> parameters` of the reference, for the loss and
      for mixtures.
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
