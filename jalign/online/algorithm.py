"""The record of an online algorithm.

An algorithm is a row of a table: which models draw responses, what the judge is
asked, how responses and judgements become a batch, the loss, and what the
algorithm keeps from step to step. The functions of a row are pure; their
keyword-only arguments are hyperparameters.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign.losses import Entry
from jalign.online.arrange import Judged
from jalign.online.carry import NO_CARRY, Carry, as_it_is
from jalign.online.draws import Draw
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
    scored: models that score the tokens of all responses; only their names and
      parameters matter. `Judged.logps` has their log-probs by name. With
      REFERENCE among them, the round measures `rollouts/kl_k1_nats` on the
      policy's own responses.
    carry: state that the algorithm keeps from step to step.
    reference: `(carry, start) -> parameters` of the reference, for the loss and
      for mixtures.
    restart: `(new carry, trained parameters) -> trained parameters` that the
      next step starts from, for methods that compute a step at one point and
      take it from another.
    samples: the least and the most number of responses by `draws[0]` that the
      setting `samples` may choose (None: no limit); None where it is fixed.
    critic: whether a value function is trained beside the policy. Trained
      parameters are then {"model": ..., "critic": ...}.
    game: whether preferences in a circle make iterates with momentum run in a
      circle, too: configs then take an optimiser without momentum.
    about: what the algorithm does, a phrase for the catalogue.
  """

  draws: tuple[Draw, ...]
  needs: Needs
  arrange: Callable[..., Any]
  loss: str | Entry
  paper: str
  updates: Updates = Updates()
  measure: Callable[..., Mapping[str, float]] = no_measures
  scored: tuple[Draw, ...] = ()
  carry: Carry = NO_CARRY
  reference: Callable[[Any, Params], Params] = the_start
  restart: Callable[[Any, Params], Params] = as_it_is
  samples: tuple[int, int | None] | None = None
  critic: bool = False
  game: bool = False
  about: str = ""
