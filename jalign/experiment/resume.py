"""Whether what lies in a stage's folder is this stage's own."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.experiment import identity
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.disk import folder as folders
from jalign.hosts import say
from jalign.training import metrics
from jalign.training.checkpoint import Checkpoints, versions

Meta = dict[str, Any]


def meta_of(
  stage: StageSettings, start: str, seed: int, made_of: Mapping[str, str]
) -> Meta:
  """What is kept beside a stage's states: all that decides them.

  Args:
    stage: its settings.
    start: fingerprint of the parameters that it starts from.
    seed: of the run.
    made_of: what else, by name.
  """
  return {
    "stage": dataclasses.asdict(stage),
    "start": start,
    "seed": seed,
    "made_of": dict(made_of),
  }


def with_metrics(meta: Meta, folder: pathlib.Path) -> Meta:
  """The same with a hash of the stage's metrics so far."""
  return {**meta, "metrics": metrics.digest(folder / "metrics.jsonl")}


def check_state(there: Meta, here: Meta, folder: pathlib.Path) -> None:
  """Checks that a checkpoint is of this stage.

  Versions that differ are printed: they may change the last bits of numbers.

  Raises:
    UserError: it was made of something else; names what.
  """
  names = differing(there, here)
  if "start" in names:
    raise UserError(
      "its checkpoints were made from another start: an earlier stage, or"
      " the run that this one begins from, was trained anew.",
      where=str(folder),
      remedy="Delete this folder; the same command trains the stage again.",
    )
  if names:
    raise _foreign(f"its checkpoints were made of other {_list(names)}", folder)
  before, now = there.get("versions", {}), versions()
  for name in sorted(before.keys() & now.keys()):
    if before[name] != now[name]:
      say(f"[{folder.name}] {name} was {before[name]} and is {now[name]}")


def check_best(best: Checkpoints, here: Meta, folder: pathlib.Path) -> None:
  """Checks that the best state there is, if any, is of this stage.

  Raises:
    UserError: it was made of something else, or none of them is whole.
  """
  if best.latest() is None:
    return
  names = differing(best.meta(), here)
  if names:
    raise _foreign(f"its best/ was made of other {_list(names)}", folder)


def check_metrics(
  there: Meta, step: int, folder: pathlib.Path, select: str, anyway: bool
) -> None:
  """Checks that the metrics up to a step are those that were written.

  Args:
    there: kept beside the state of that step.
    step: reached.
    folder: of the stage.
    select: metric that its best state is chosen by; "" for none.
    anyway: whether others will do, too; kept in the run's folder.

  Raises:
    UserError: they are others.
  """
  path = folder / "metrics.jsonl"
  expected = there.get("metrics")
  if expected is None or metrics.digest(path, step) == expected:
    return
  problem = "isn't what this stage wrote"
  if select:
    raise UserError(
      f"{problem}, and {select} in it chooses the best state.",
      where=str(path),
      remedy="Bring back the file. Or delete the folder of this stage and of"
      " those that start from it: the same command trains them again.",
    )
  if not anyway:
    raise UserError(
      f"{problem}.",
      where=str(path),
      remedy="Bring back the file; or --config.resume=anyway goes on with this"
      " one.",
    )
  identity.agree(folder.parent, f"{folder.name}/{path.name}")


def check_chosen(stage: pathlib.Path, settings: Settings) -> None:
  """Checks that the states of a stage that its policy is taken from are its.

  Args:
    stage: its folder.
    settings: of its run.

  Raises:
    UserError: they were made with other settings; or its best state and its
      last one are of two makings.
  """
  own = dataclasses.asdict(settings.stage(stage.name))
  metas = {}
  for name in ("best", "checkpoints"):
    states = Checkpoints(stage / name)
    try:
      there = states.meta() if states.steps() else None
    except UserError:  # none is whole: there is nothing to compare
      continue
    if there is None:
      continue
    here = {"stage": own, "seed": settings.seed, "made_of": {}}
    names = differing(there, here | {"start": there.get("start")})
    if names:
      raise _foreign(f"its {name}/ was made of other {_list(names)}", stage)
    metas[name] = there
  if len(metas) < 2 or not all("made_of" in there for there in metas.values()):
    return
  if differing(metas["best"], metas["checkpoints"]):
    raise _foreign("its best/ is of another run or stage", stage)


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
  """Names of what differs in two records that were kept beside states.

  What an older version kept nothing of differs in nothing.

  Args:
    there: as it was read.
    here: as it would be written now.
  """
  here = json.loads(json.dumps(here))  # tuples become lists
  names = []
  if "stage" in there:
    whole = dataclasses.asdict(StageSettings(name="", loss={}))
    before = folders.filled(there["stage"], json.loads(json.dumps(whole)))
    names += [
      f"settings: config.{here['stage']['name']}.{key}"
      for key in sorted(folders.differing(before, here["stage"]))
    ]
  names += [k for k in ("seed", "start") if k in there and there[k] != here[k]]
  made_of = there.get("made_of", {})
  return names + [
    name
    for name, value in here["made_of"].items()
    if name in made_of and made_of[name] != value
  ]


def _list(names: list[str]) -> str:
  return ", ".join(names)


def _foreign(problem: str, folder: pathlib.Path) -> UserError:
  return UserError(
    f"{problem}.",
    where=str(folder),
    remedy="Bring back what was there. Or delete the folder of this stage and"
    " of those that start from it: the same command trains them again.",
  )
