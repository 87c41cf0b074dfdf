"""Whether saved states were made by the stage that they are taken for."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.disk import folder as folders
from jalign.training.checkpoint import Checkpoints


def check_chosen(stage: pathlib.Path, settings: Settings) -> None:
  """Checks that the states that a policy is taken from are the stage's own.

  Args:
    stage: the stage's folder.
    settings: settings of its run.

  Raises:
    UserError: the states were made with other settings; or the best state and
      the last state don't come from the same training.
  """
  own = dataclasses.asdict(settings.stage(stage.name))
  metas = {}
  for name in ("best", "checkpoints"):
    states = Checkpoints(stage / name)
    try:
      there = states.meta() if states.steps() else None
    except UserError:  # no checkpoint is whole: there is nothing to compare
      continue
    if there is None:
      continue
    here = {"stage": own, "seed": settings.seed, "made_of": {}}
    names = differing(there, here | {"start": there.get("start")})
    if names:
      raise foreign(
        f"the stage's {name}/ was made of other {listed(names)}", stage
      )
    metas[name] = there
  if len(metas) < 2 or not all("made_of" in there for there in metas.values()):
    return
  if differing(metas["best"], metas["checkpoints"]):
    raise foreign("the stage's best/ is of another run or stage", stage)


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
  """Names of what differs between the `meta` of two checkpoints.

  Entries that an older version didn't keep count as equal.

  Args:
    there: `meta` as it was read.
    here: `meta` as it would be written now.
  """
  here = json.loads(json.dumps(here))  # tuples become lists
  names = []
  if "stage" in there:
    plain = dataclasses.asdict(StageSettings(name="", loss={}))
    whole = json.loads(json.dumps(plain))
    # Both may be of a version that had fewer keys.
    before, now = (folders.filled(x["stage"], whole) for x in (there, here))
    names += [
      f"settings: config.{now['name']}.{key}"
      for key in sorted(folders.differing(before, now))
    ]
  names += [k for k in ("seed", "start") if k in there and there[k] != here[k]]
  made_of = there.get("made_of", {})
  return names + [
    name
    for name, value in here["made_of"].items()
    if name in made_of and made_of[name] != value
  ]


def listed(names: list[str]) -> str:
  return ", ".join(names)


def foreign(problem: str, folder: pathlib.Path) -> UserError:
  return UserError(
    f"{problem}.",
    where=str(folder),
    remedy="Bring back what was there. Or delete the folder of this stage and"
    " of those that start from it: the same command trains them again.",
  )
