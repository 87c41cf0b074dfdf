"""Trains a stage that several runs of a sweep have in common only once.

The first run trains the stage. The other runs copy its folder, if everything
that decides the folder's contents agrees. Then they resume from the copy, with
all checks of resuming.
"""

import functools
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from jalign.errors import UserError
from jalign.experiment import identity, resume
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.disk import folder as folders
from jalign.experiment.states import differing
from jalign.files import appearing
from jalign.hosts import host0, once, say, together
from jalign.training.checkpoint import Checkpoints

_LINKED = ("checkpoints", "best")  # folders whose files never change


class Sibling(NamedTuple):
  """Another run of the same sweep.

  Attributes:
    folder: that run's folder.
    settings: that run's settings.
  """

  folder: pathlib.Path
  settings: Settings


class Sharing(NamedTuple):
  """Lets a run take stages that another run has trained.

  Attributes:
    folder: the run's folder.
    settings: the run's settings.
    made_of: hashes of what the run is made of: see `identity.made_of`.
    siblings: the other runs of the sweep.
  """

  folder: pathlib.Path
  settings: Settings
  made_of: identity.MadeOf
  siblings: Sequence[Sibling]

  def take(self, stage: StageSettings, meta: resume.Meta, steps: int) -> None:
    """Takes the folder of a stage, if a sibling has finished the same one.

    All processes call this together.

    Args:
      stage: the stage's settings.
      meta: from `resume.meta_of`.
      steps: number of steps of the stage.
    """
    agreeing = lambda: self._agreeing(stage, steps) if host0() else []
    target = self.folder / stage.name
    # Checkpoints are read by all processes together, and copied by the first.
    for sibling in together(agreeing)[0]:
      source = sibling / stage.name
      if _is_whole(source, meta, steps):
        together(functools.partial(once(_copy), source, target))
        say(f"[{stage.name}] is that of {sibling.name}: taken")
        return

  def _agreeing(self, stage: StageSettings, steps: int) -> list[pathlib.Path]:
    """Folders of siblings whose stage is this one, and has come to its end."""
    if Checkpoints(self.folder / stage.name / "checkpoints").steps():
      return []
    last = lambda folder: max(
      Checkpoints(folder / stage.name / "checkpoints").steps(), default=None
    )
    return [
      sibling.folder
      for sibling in self.siblings
      if _agree(self, sibling, stage) and last(sibling.folder) == steps
    ]


def _agree(mine: Sharing, sibling: Sibling, stage: StageSettings) -> bool:
  """Whether two runs agree on everything that a stage's folder comes from."""
  a, b = mine.settings, sibling.settings
  if a.wandb_project or stage not in b.stages:
    return False  # wandb has a run for each stage
  if (a.seed, a.mesh) != (b.seed, b.mesh):
    return False
  names = set(identity.needed_by(a, stage, mine.made_of))
  names.add(f"{identity.data_name(a, stage)}.held_out")
  if stage.samples or stage.diagnostics.samples:
    if (a.sample, a.annotator) != (b.sample, b.annotator):
      return False
    names |= {"data.held_out", "data.held_out_rows"}
    names |= {"annotator.function", "annotator.cost", "annotator.measures"}
    names |= {"template", "tokenizer"}
  try:
    there = folders.read_json(sibling.folder / identity.NAME)
    made_of, changed = there["made_of"], there["went_on"]
    values = [(mine.made_of.get(name), made_of.get(name)) for name in names]
  except (UserError, LookupError, TypeError, AttributeError):
    return False  # the sibling has not begun, or is damaged
  return not changed and all(x == y for x, y in values)


def _is_whole(folder: pathlib.Path, meta: resume.Meta, steps: int) -> bool:
  """Whether a folder holds the same stage, finished."""
  checkpoints = Checkpoints(folder / "checkpoints")
  try:
    there = checkpoints.meta()
  except UserError:  # all checkpoints are damaged
    return False
  same = there.keys() >= meta.keys() and not differing(there, meta)
  return same and checkpoints.latest() == steps


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a stage's folder whole or not at all."""
  with appearing(target) as partial:
    partial.mkdir()
    for path in sorted(source.iterdir()):
      if path.name == "results.json":  # the run judges for itself
        continue
      if path.is_dir():
        copy = _link if path.name in _LINKED else shutil.copy2
        shutil.copytree(path, partial / path.name, copy_function=copy)
      else:
        shutil.copy2(path, partial / path.name)
    # A folder that is there is of a stage that was killed before it saved.
    shutil.rmtree(target, ignore_errors=True)


def _link(source: str, target: str) -> None:
  """Gives a file a second name; copies it if the file system has no links."""
  try:
    os.link(source, target)
  except OSError:
    shutil.copy2(source, target)
