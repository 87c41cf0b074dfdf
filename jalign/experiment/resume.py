"""Checks that the states in a stage's folder were made by this stage."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.experiment import identity
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.states import differing, foreign, listed
from jalign.hosts import host0, say
from jalign.training import metrics
from jalign.training.checkpoint import Checkpoints, versions

Meta = dict[str, Any]


def meta_of(
  stage: StageSettings, start: str, seed: int, made_of: Mapping[str, str]
) -> Meta:
  """The `meta` of a stage's checkpoints: everything that decides its states.

  Args:
    stage: the stage's settings.
    start: fingerprint of the parameters that the stage starts from.
    seed: the run's seed.
    made_of: hashes of everything else, by name.
  """
  return {
    "stage": dataclasses.asdict(stage),
    "start": start,
    "seed": seed,
    "made_of": dict(made_of),
  }


def with_metrics(meta: Meta, folder: pathlib.Path) -> Meta:
  """`meta` with a hash of the stage's metrics so far.

  The first process alone writes metrics, and alone saves `meta`.
  """
  if not host0():
    return meta
  return {**meta, "metrics": metrics.digest(folder / "metrics.jsonl")}


def check_state(there: Meta, here: Meta, folder: pathlib.Path) -> None:
  """Checks that a checkpoint was made by this stage.

  Versions that differ are printed, since they may change the last bits of
  numbers.

  Args:
    there: the checkpoint's `meta`.
    here: the stage's `meta`.
    folder: the stage's folder.

  Raises:
    UserError: the checkpoint was made of something else, which the error names.
  """
  names = differing(there, here)
  if "start" in names:
    raise UserError(
      "the stage's checkpoints were made from another start: an earlier stage,"
      " or the run that this run begins from, was trained anew.",
      where=str(folder),
      remedy="Delete this folder; the same command trains the stage again.",
    )
  if names:
    raise foreign(
      f"the stage's checkpoints were made of other {listed(names)}", folder
    )
  before, now = there.get("versions", {}), versions()
  for name in sorted(before.keys() & now.keys()):
    if before[name] != now[name]:
      say(f"[{folder.name}] {name} was {before[name]} and is {now[name]}")


def check_best(best: Checkpoints, here: Meta, folder: pathlib.Path) -> None:
  """Checks that the best state, if there is one, was made by this stage.

  Raises:
    UserError: it was made of something else, or no best state is whole.
  """
  if best.latest() is None:
    return
  names = differing(best.meta(), here)
  if names:
    raise foreign(
      f"the stage's best/ was made of other {listed(names)}", folder
    )


def check_metrics(
  there: Meta, step: int, folder: pathlib.Path, select: str, anyway: bool
) -> None:
  """Checks that the metrics up to a step are those that this stage wrote.

  Args:
    there: `meta` of the checkpoint of that step.
    step: the step.
    folder: the stage's folder.
    select: metric by which the best state is chosen; "" for none.
    anyway: whether to continue with other metrics; the run's folder then keeps
      that this was agreed to.

  Raises:
    UserError: the metrics are others.
  """
  path = folder / "metrics.jsonl"
  expected = there.get("metrics")
  if expected is None or metrics.digest(path, step) == expected:
    return
  problem = "the file isn't what this stage wrote"
  if select:
    raise UserError(
      f"{problem}, and {select} in the file chooses the best state.",
      where=str(path),
      remedy="Bring back the file. Or delete the folder of this stage and of"
      " those that start from it: the same command trains them again.",
    )
  if not anyway:
    raise UserError(
      f"{problem}.",
      where=str(path),
      remedy="Bring back the file; or --config.resume=anyway continues with"
      " this file.",
    )
  identity.agree(folder.parent, f"{folder.name}/{path.name}")
