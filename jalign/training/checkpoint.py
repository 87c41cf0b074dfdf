"""Checkpoints: the state, the position in the data, and what made them."""

import pathlib
from typing import Any, NamedTuple

import flax
import jax
import jaxlib
import numpy as np
import optax
import orbax.checkpoint as ocp

import jalign
from jalign.errors import UserError
from jalign.training.state import TrainState
from jalign.types import Params


class Restored(NamedTuple):
  """A checkpoint read back.

  Attributes:
    state: the state, on the shardings that were asked for.
    data: position in the data, as the loader gave it.
    meta: `versions`, `shapes` and whatever else was saved beside them.
  """

  state: TrainState
  data: Any
  meta: dict[str, Any]


def versions() -> dict[str, str]:
  """Versions of what decides a run's numbers."""
  modules = (jalign, jax, jaxlib, flax, optax, ocp, np)
  return {m.__name__.split(".")[0]: m.__version__ for m in modules}


class Checkpoints:
  """A folder of checkpoints, written in the background.

  Args:
    folder: is created; one subfolder a step.
    keep: newest checkpoints to keep.
  """

  def __init__(self, folder: str | pathlib.Path, *, keep: int = 2):
    self.folder = pathlib.Path(folder).resolve()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(max_to_keep=keep),
      item_names=("params", "optimizer", "data", "meta"),
    )

  def save(self, state: TrainState, *, data: Any, meta: dict[str, Any]) -> None:
    """Starts to save; the arrays are copied before this returns.

    A step that is there already is left alone.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    # Host views of CPU arrays may alias buffers that the next step donates.
    if jax.default_backend() == "cpu":
      state = jax.tree.map(lambda x: x.copy(), state)
    rest = {"step": state.step, "opt_state": state.opt_state}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        params=ocp.args.StandardSave(state.params),
        optimizer=ocp.args.StandardSave(rest),
        data=ocp.args.JsonSave({"position": data}),
        meta=ocp.args.JsonSave(
          dict(
            meta,
            versions=versions(),
            shapes={
              "params": _shapes(state.params),
              "optimizer": _shapes(rest),
            },
          )
        ),
      ),
    )

  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, None without one."""
    return self._manager.latest_step()

  def restore(self, like: TrainState) -> Restored:
    """Reads the newest checkpoint onto any mesh.

    Args:
      like: a state, or jax.ShapeDtypeStructs with shardings in its place:
        shapes and placement of the result.

    Raises:
      UserError: there is none, or its shapes are not those of `like`.
    """
    rest = {"step": like.step, "opt_state": like.opt_state}
    got = self._read(
      {"params": like.params, "optimizer": rest}, data=ocp.args.JsonRestore()
    )
    state = TrainState(params=got.params, **got.optimizer)
    return Restored(state, got.data["position"], got.meta)

  def restore_params(self, like: Params) -> Params:
    """Reads the newest checkpoint's parameters alone.

    Args:
      like: params, or jax.ShapeDtypeStructs with shardings in their place.

    Raises:
      UserError: there is none, or its shapes are not those of `like`.
    """
    return self._read({"params": like}).params

  def _read(self, trees, **items):
    step = self.latest()
    if step is None:
      raise UserError("holds no complete checkpoint.", where=str(self.folder))
    read = lambda **items: self._manager.restore(
      step, args=ocp.args.Composite(**items)
    )
    meta = read(meta=ocp.args.JsonRestore()).meta
    # Compared before reading: a read that fails half way leaves its threads.
    for name, like in trees.items():
      there, here = meta["shapes"][name], _shapes(like)
      for path in sorted(there.keys() | here.keys()):
        if there.get(path) != here.get(path):
          raise UserError(
            f"the checkpoint of step {step} doesn't fit this model and"
            f" optimiser: {name}{path} has shape {there.get(path)} there and"
            f" {here.get(path)} here (None: there is no such array).",
            where=str(self.folder),
            remedy="Use the config that made it.",
          )
      items[name] = ocp.args.StandardRestore(_abstract(like))
    return read(meta=ocp.args.JsonRestore(), **items)

  def discard_after(self, step: int) -> None:
    """Deletes checkpoints of later steps: a resumed run makes its own."""
    for later in self._manager.all_steps():
      if later > step:
        self._manager.delete(later)

  def wait(self) -> None:
    """Blocks until what was started is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and frees the background threads."""
    self._manager.wait_until_finished()
    self._manager.close()


def _shapes(tree) -> dict[str, list[int]]:
  return {
    jax.tree_util.keystr(path): list(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _abstract(tree):
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
