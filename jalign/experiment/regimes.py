"""How training on data differs from training on samples, in one place."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jalign.experiment import offline, online
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.stepping import Stepping


class Regime(NamedTuple):
  """How a stage gets its batches, and how it is measured.

  Attributes:
    total_steps: `(stage, dataset, kind of batch) -> number of steps`.
    updates_of: `stage -> number of updates of a step`.
    batches_of: `(materials, stage, loss) -> what the loop iterates over`.
    prepare_of: `(materials, stage, model, whole, critic, ref_params, table)` ->
      `(state, batch) -> loop.Placed`; `critic` gives a critic's parameters of
      trained parameters, if there is a critic.
    stepping_of: `(materials, stage, trained parameters' shapes, their
      shardings, whole) -> Stepping`; `whole` makes a policy of trained
      parameters.
    measure_of: `(run, stage, assembly, start's parameters) -> Measure`, on
      held-out data.
    measured: sections of the metrics that `measure_of` gives.
    check: `(run, stage, loss, dataset)`; raises UserError for settings that
      make no sense in this regime.
  """

  total_steps: Callable[..., int]
  updates_of: Callable[..., int]
  batches_of: Callable[..., Any]
  prepare_of: Callable[..., Any]
  stepping_of: Callable[..., Stepping]
  measure_of: Callable[..., Any]
  measured: tuple[str, ...]
  check: Callable[..., None]


OFFLINE = Regime(
  offline.total_steps,
  offline.updates_of,
  offline.batches_of,
  offline.prepare_of,
  offline.stepping_of,
  offline.measure_of,
  ("eval",),
  offline.check,
)
ONLINE = Regime(
  online.total_steps,
  online.updates_of,
  online.batches_of,
  online.prepare_of,
  online.stepping_of,
  online.measure_of,
  ("samples", "measures"),
  online.check,
)


def regime_of(stage: StageSettings) -> Regime:
  """The regime of a stage: ONLINE if the stage samples, else OFFLINE."""
  return ONLINE if stage.samples else OFFLINE
