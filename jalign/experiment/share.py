"""A stage that several runs of a sweep have in common is trained once.

The first run trains it; the others take its folder, where all agrees that
decides what is in it. Then they resume from it, with all the checks of that.
"""

import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import jax

from jalign.errors import UserError
from jalign.experiment import identity, resume
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.disk import folder as folders
from jalign.files import appearing
from jalign.hosts import say
from jalign.training.checkpoint import Checkpoints

_LINKED = ("checkpoints", "best")  # what is in them is written once


class Sibling(NamedTuple):
  """Another run of the same sweep.

  Attributes:
    folder: of it.
    settings: of it.
  """

  folder: pathlib.Path
  settings: Settings


class Sharing(NamedTuple):
  """How a run comes by stages that another run has trained.

  Attributes:
    folder: of the run.
    settings: of it.
    made_of: what it is made of: see `identity.made_of`.
    siblings: where else to look.
  """

  folder: pathlib.Path
  settings: Settings
  made_of: identity.MadeOf
  siblings: Sequence[Sibling]

  def take(self, stage: StageSettings, meta: resume.Meta, steps: int) -> None:
    """Takes the folder of a stage, if a sibling has finished the same one.

    Args:
      stage: its settings.
      meta: of `resume.meta_of`.
      steps: of the stage.
    """
    target = self.folder / stage.name
    if Checkpoints(target / "checkpoints").steps() or jax.process_count() > 1:
      return
    for sibling in self.siblings:
      if _agree(self, sibling, stage) and _is_whole(
        sibling.folder / stage.name, meta, steps
      ):
        _copy(sibling.folder / stage.name, target)
        say(f"[{stage.name}] is that of {sibling.folder.name}: taken")
        return


def _agree(mine: Sharing, sibling: Sibling, stage: StageSettings) -> bool:
  """Whether two runs agree on all that a stage's folder comes from."""
  a, b = mine.settings, sibling.settings
  if a.wandb_project or stage not in b.stages:
    return False  # wandb has one run a stage
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
    return False  # not begun, or damaged
  return not changed and all(x == y for x, y in values)


def _is_whole(folder: pathlib.Path, meta: resume.Meta, steps: int) -> bool:
  """Whether a folder holds a finished stage, and the same one."""
  checkpoints = Checkpoints(folder / "checkpoints")
  if max(checkpoints.steps(), default=None) != steps:
    return False
  try:
    there = checkpoints.meta()
  except UserError:  # all are damaged
    return False
  same = there.keys() >= meta.keys() and not resume.differing(there, meta)
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
    # What is there is of a stage that was killed before it had saved anything.
    shutil.rmtree(target, ignore_errors=True)


def _link(source: str, target: str) -> None:
  """A second name of a file, where the file system has such, or a copy."""
  try:
    os.link(source, target)
  except OSError:
    shutil.copy2(source, target)
