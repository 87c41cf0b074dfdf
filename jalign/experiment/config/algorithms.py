"""The algorithm that a stage names."""

from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import StageSettings
from jalign.online import ALGORITHMS, Algorithm, bind, told


def algorithm_of(stage: StageSettings) -> Algorithm:
  """The algorithm of a stage that samples, with its hyperparameters.

  A config file may have put a row of its own into the table. Whoever only reads
  what a run has left doesn't ask for it, and needn't have that file.

  Raises:
    UserError: there is no such row, or it hasn't such hyperparameters. Whatever
      the row's own functions raise later is told in a paragraph, too.
  """
  if stage.algorithm not in ALGORITHMS:
    raise UserError(
      f"unknown algorithm {stage.algorithm!r}.",
      where=f"config.{stage.name}.algorithm",
      remedy=nearest(stage.algorithm, ALGORITHMS),
    )
  where = f"config.{stage.name}.algorithm_settings"
  return told(
    bind(ALGORITHMS[stage.algorithm], stage.algorithm_settings, where)
  )
