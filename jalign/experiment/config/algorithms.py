"""The algorithm that a stage names."""

import pathlib

import jalign
from jalign.errors import UserError, code_of, nearest
from jalign.experiment.config import code
from jalign.experiment.config.settings import StageSettings
from jalign.online import ALGORITHMS, Algorithm, bind, told


def algorithm_of(stage: StageSettings) -> Algorithm:
  """Returns the algorithm of a stage that samples, with its hyperparameters.

  A config file may have added its own row to the table. Commands that only read
  a finished run don't call this function, so that they work without that file.

  Raises:
    UserError: there is no such row, or the row has no such hyperparameters.
      Errors that the row's own functions raise later are UserErrors, too.
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


def trains_critic(stage: StageSettings) -> bool:
  """Whether a stage trains a critic; False if its algorithm's code is gone."""
  row = ALGORITHMS.get(stage.algorithm)
  return row is not None and row.critic


def fingerprint(name: str) -> str:
  """Returns a hash of the files of an algorithm's own functions.

  Args:
    name: name of the algorithm in the table.

  Returns:
    "" for an algorithm of jalign's, which the version identifies, and for a
    name that isn't in the table.
  """
  if name not in ALGORITHMS:
    return ""
  row = ALGORITHMS[name]
  loss = getattr(row.loss, "function", None)
  functions = [row.arrange, row.measure, row.reference, *row.carry, loss]
  codes = map(code_of, [*functions, *(draw.params for draw in row.draws)])
  files = {pathlib.Path(c.co_filename).resolve() for c in codes if c}
  package = pathlib.Path(jalign.__file__).resolve().parent
  own = sorted(f for f in files if not f.is_relative_to(package))
  return " ".join(code.fingerprint(f"{f}:{name}") for f in own if f.exists())
