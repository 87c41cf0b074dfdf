"""What differs between training on data and on samples, in one place."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jalign.experiment import offline, online
from jalign.experiment.config.settings import StageSettings


class Regime(NamedTuple):
  """How a stage is fed and measured.

  Attributes:
    total_steps: `(stage, dataset, kind of batch) -> steps`.
    batches_of: `(materials, stage, loss) -> what the loop iterates over`.
    prepare_of: `(materials, stage, model, policy, ref_params, table) ->
      (state, batch) -> loop.Placed`.
    measure_of: `(run, stage, assembly, start's parameters) -> Measure`, of the
      held-out part.
    samples: whether the policy samples and the annotator judges, so that the
      parameters come from these, too, and a reference is always at hand.
  """

  total_steps: Callable[..., int]
  batches_of: Callable[..., Any]
  prepare_of: Callable[..., Any]
  measure_of: Callable[..., Any]
  samples: bool


OFFLINE = Regime(
  offline.total_steps,
  offline.batches_of,
  offline.prepare_of,
  offline.measure_of,
  samples=False,
)
ONLINE = Regime(
  online.total_steps,
  online.batches_of,
  online.prepare_of,
  online.measure_of,
  samples=True,
)


def regime_of(stage: StageSettings) -> Regime:
  """The regime of a stage."""
  return ONLINE if stage.algorithm else OFFLINE
