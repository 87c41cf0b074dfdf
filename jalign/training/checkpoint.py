"""Checkpoints: a training state, its position in the data, and its origin."""

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jaxlib
import numpy as np
import optax
import orbax.checkpoint as ocp

import jalign
from jalign import cluster
from jalign.errors import UserError
from jalign.files import is_about_writing, unwritable
from jalign.hosts import exchange, host0, say, together
from jalign.training import arrays, manifest, quirks, readback
from jalign.training.state import TrainState
from jalign.types import Params

_POLICIES = ocp.checkpoint_managers.preservation_policy
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of orbax's own folders


class Restored(NamedTuple):
  """A checkpoint read back.

  Attributes:
    state: the training state, on the shardings that were asked for.
    data: the position in the data, as the loader gave it.
    meta: `versions`, `shapes` and everything else that was saved with them.
  """

  state: TrainState
  data: Any
  meta: dict[str, Any]


def versions() -> dict[str, str]:
  """Versions of the packages that decide a run's numbers, by package."""
  modules = (jalign, jax, jaxlib, flax, optax, ocp, np)
  return {m.__name__.split(".")[0]: m.__version__ for m in modules}


class Checkpoints:
  """A folder of checkpoints, written in the background.

  Each checkpoint has a manifest of its files' hashes, and one that differs from
  its manifest is never read: the newest whole checkpoint is taken instead, and
  a line is printed. Nothing is made or deleted before the first `save` or
  `discard_after`.

  All processes of a run call every function but `steps`, `check` and `wait` at
  the same point of their work. What is wrong on a single process is raised on
  all, except an error of a save in the background: `cluster.fail` ends all
  processes at once, and without it the error is raised on that process alone.

  Args:
    folder: holds a subfolder per checkpoint, named by its step; the same
      folder for all processes.
    keep: number of newest checkpoints to keep, 2 or more, so that there is one
      to fall back on.
    keep_every: a checkpoint whose step is a multiple is kept for ever; 0 for
      none.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    *,
    keep: int = 2,
    keep_every: int = 0,
  ):
    if keep < 2:
      raise ValueError(f"keep is {keep}: nothing is left to fall back on")
    self.folder = pathlib.Path(folder).resolve()
    self._keep, self._keep_every = keep, keep_every
    self._manager: ocp.CheckpointManager | None = None
    self._saving = -1
    self._failure: Exception | None = None
    self._saved: dict[str, list[readback.ArrayDigest]] = {}
    self._alias: tempfile.TemporaryDirectory | None = None
    self._whole: set[int] = set()

  def save(self, state: TrainState, *, data: Any, meta: dict[str, Any]) -> None:
    """Starts to save a checkpoint; the arrays are copied before this returns.

    A step that has a checkpoint already is left alone.

    Args:
      state: the training state.
      data: position in the data, as values for JSON.
      meta: anything else to keep, as values for JSON.

    Raises:
      UserError: this checkpoint or the one before can't be written.
    """
    step = int(state.step)
    manager = self._open()
    if any(together(lambda: self._is_there(manager, state, step))):
      return
    with self._telling():
      # Host views of CPU arrays may alias buffers that the next step donates.
      if jax.default_backend() == "cpu":
        state = jax.tree.map(lambda x: x.copy(), state)
      trees = {"params": state.params, "optimizer": arrays.beside(state)}
      self._saving = step
      self._saved = {k: readback.digests(tree) for k, tree in trees.items()}
      shapes = {k: arrays.shapes(tree) for k, tree in trees.items()}
      manager.save(
        step,
        args=ocp.args.Composite(
          **{k: ocp.args.StandardSave(tree) for k, tree in trees.items()},
          data=ocp.args.JsonSave({"position": data}),
          meta=ocp.args.JsonSave(
            dict(meta, versions=versions(), shapes=shapes)
          ),
        ),
      )

  def steps(self) -> list[int]:
    """Steps of all checkpoints, including damaged ones; ascending."""
    if not self.folder.is_dir():
      return []
    return sorted(
      int(path.name)
      for path in self.folder.iterdir()
      if path.name.isdecimal() and path.is_dir()
    )

  def latest(self, items: Sequence[str] = ()) -> int | None:
    """Step of the newest whole checkpoint; None if none was ever saved.

    Prints a line about each newer checkpoint that is damaged.

    Args:
      items: parts of a checkpoint that will be read; () for all parts.

    Raises:
      UserError: there are checkpoints, and all of them are damaged.
    """
    steps = exchange(self.steps())[0]
    problems: list[str] = []
    for step in reversed(steps):
      problem = None
      if step not in self._whole:
        path = self.folder / str(step)
        found = exchange(manifest.damage(path, items))
        problem = next(filter(None, found), None)
      if problem is None:
        if not items:
          self._whole.add(step)
        for line in problems:
          say(f"{self.folder}: {line}; step {step} is used instead")
        return step
      problems.append(f"the checkpoint of step {step} is damaged: {problem}")
    if not steps:
      return None
    raise UserError(
      f"no whole checkpoint is left: {'; '.join(problems)}.",
      where=str(self.folder),
      remedy="Bring back a copy of this folder; or delete the folder of its"
      " stage, and the same command trains the stage again.",
    )

  def restore(self, like: TrainState) -> Restored:
    """Reads the newest whole checkpoint onto any mesh.

    Args:
      like: a state, or jax.ShapeDtypeStructs with shardings in place of its
        arrays: shapes and placement of the result.

    Raises:
      UserError: there is no checkpoint, or its shapes are not those of `like`.
    """
    step = self._existing(self.latest())
    got = self._read(
      step, {"params": like.params, "optimizer": arrays.beside(like)}
    )
    state = like.replace(params=got["params"], **got["optimizer"])
    data = self._json(step, "data")["position"]
    return Restored(state, data, self._json(step, "meta"))

  def restore_params(self, like: Params) -> Params:
    """Reads only the parameters of the newest whole checkpoint.

    Args:
      like: params, or jax.ShapeDtypeStructs with shardings in their place.

    Raises:
      UserError: there is no checkpoint, or its shapes are not those of `like`.
    """
    step = self._existing(self.latest(("params", "meta")))
    return self._read(step, {"params": like})["params"]

  def meta(self) -> dict[str, Any]:
    """The `meta` that was saved with the newest whole checkpoint.

    Raises:
      UserError: there is no checkpoint.
    """
    step = self._existing(self.latest(("params", "meta")))
    return self._json(step, "meta")

  def _existing(self, step: int | None) -> int:
    if step is None:
      raise UserError(
        "the folder holds no complete checkpoint.", where=str(self.folder)
      )
    return step

  def _json(self, step: int, item: str) -> dict[str, Any]:
    return json.loads(
      (self.folder / str(step) / item / "metadata").read_bytes()
    )

  def _read(self, step: int, trees: dict[str, Any]) -> dict[str, Any]:
    shapes = self._json(step, "meta")["shapes"]
    # Shapes are compared before reading: a failed read leaves its threads.
    for name, like in trees.items():
      arrays.check(shapes[name], like, name, step, self.folder)
    # Item by item: orbax's files beside the items have no hash in the manifest.
    with ocp.StandardCheckpointer() as reader:
      return {
        name: reader.restore(
          self.folder / str(step) / name, arrays.abstract(like)
        )
        for name, like in trees.items()
      }

  def discard_after(self, step: int) -> None:
    """Deletes the checkpoints of later steps; a resumed run makes its own."""

    def delete() -> None:
      self.wait()
      for later in self.steps() if host0() else ():
        path = self.folder / str(later)
        if later > step or not (path / manifest.NAME).exists():
          shutil.rmtree(path)

    together(delete)
    self._whole = {there for there in self._whole if there <= step}
    if self._manager is not None:
      self._manager.reload()

  def check(self) -> None:
    """Raises the error of a save in the background, if there was one."""
    manager = self._manager
    # Orbax's own check_for_errors finds none: its thread has taken the error.
    saved = manager is not None and not manager.is_saving_in_progress()
    if saved or self._failure:
      self.wait()

  def wait(self) -> None:
    """Blocks until the save that was started is on disk.

    Raises:
      UserError: the checkpoint can't be written.
    """
    # The thread of a failed save may wait for other processes for minutes.
    if self._failure:
      raise self._failure
    if self._manager is not None:
      with self._telling():
        self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the last save, and frees the background threads."""
    self.wait()
    if self._manager is not None:
      self._manager.close()
    if self._alias is not None:
      self._alias.cleanup()

  def _open(self) -> ocp.CheckpointManager:
    if self._manager is None:
      path, self._alias = together(self._cleared)[jax.process_index()]
      keep: list[Any] = [_POLICIES.LatestN(n=self._keep)]
      if self._keep_every:
        keep.append(_POLICIES.EveryNSteps(self._keep_every))
      self._manager = quirks.Manager(
        path,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=_POLICIES.AnyPreservationPolicy(keep),
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._seal, **quirks.timeout()
          ),
        ),
        item_names=("params", "optimizer", "data", "meta"),
        failed=self._fail,
      )
    return self._manager

  def _cleared(self) -> tuple[pathlib.Path, Any]:
    """Deletes what a process that was killed left; the path for orbax."""
    if host0():
      for left in self.folder.glob(f"*{_UNFINISHED}*"):
        shutil.rmtree(left)
    return quirks.without_patterns(self.folder)

  def _is_there(self, manager: Any, state: TrainState, step: int) -> bool:
    """Whether a step has a checkpoint; if not, there is space for one."""
    with self._telling():
      manager.wait_until_finished()
      if step in manager.all_steps():
        return True
      self._saving = step
      arrays.check_space(state, self.folder)
      return False

  def _seal(self) -> None:
    """Reads the files back, then writes the manifest; orbax calls this just
    before it renames the folder."""
    if not host0():
      return
    unfinished = list(self.folder.glob(f"{self._saving}{_UNFINISHED}*"))
    written = (unfinished or [self.folder / str(self._saving)])[0]
    readback.check(written, self._saved)
    manifest.write(written)

  def _fail(self, error: Exception) -> None:
    """Ends all processes for the error of a save in the background."""
    if jax.process_count() > 1:  # otherwise `wait` raises it
      self._failure = self._told(error)
      cluster.fail(self._failure)

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    try:
      yield
    except Exception as e:
      told = self._told(e)
      raise told from told.__cause__

  def _told(self, error: Exception) -> Exception:
    """The error for people, where an error is about writing."""
    if isinstance(error, UserError) or not is_about_writing(error):
      return error
    what = f"the checkpoint of step {self._saving}"
    told = unwritable(error, what, self.folder)
    told.__cause__ = error
    return told
