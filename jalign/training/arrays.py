"""The arrays of a state as a checkpoint keeps them, and whether they fit."""

import errno
import os
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from jalign.errors import UserError
from jalign.training.state import TrainState

_OVERHEAD = 2**20  # bytes of a checkpoint beside its arrays, a generous guess


def beside(state: TrainState) -> dict[str, Any]:
  """The part of a state beside its parameters; no carry without arrays."""
  beside = {"step": state.step, "opt_state": state.opt_state}
  if jax.tree.leaves(state.carry):
    beside["carry"] = state.carry
  return beside


def check_space(state: TrainState, folder: pathlib.Path) -> None:
  """Raises OSError for a full disk before half a checkpoint is written."""
  needed = sum(x.nbytes for x in jax.tree.leaves(state)) + _OVERHEAD
  free = shutil.disk_usage(folder).free
  if free < needed:
    text = os.strerror(errno.ENOSPC)
    text += f": {needed / 2**20:,.1f} MiB are needed"
    raise OSError(errno.ENOSPC, text)


def shapes(tree: Any) -> dict[str, list[int]]:
  """Path of an array -> its shape."""
  return {
    jax.tree_util.keystr(path): list(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def abstract(tree: Any) -> Any:
  """Shapes, dtypes and shardings in place of the arrays."""
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def check(
  there: dict[str, list[int]],
  like: Any,
  name: str,
  step: int,
  folder: pathlib.Path,
) -> None:
  """Checks that a checkpoint's arrays have the shapes that are asked for.

  Args:
    there: `shapes` of the arrays in the checkpoint.
    like: the arrays, or jax.ShapeDtypeStructs in their place.
    name: the item of the checkpoint.
    step: its step.
    folder: the folder of checkpoints.

  Raises:
    UserError: an array has another shape, is missing, or is there beside them.
  """
  here = shapes(like)
  for path in sorted(there.keys() | here.keys()):
    if there.get(path) != here.get(path):
      raise UserError(
        f"the checkpoint of step {step} doesn't fit this model and"
        f" optimiser: {name}{path} has shape {there.get(path)} there and"
        f" {here.get(path)} here (None: there is no such array).",
        where=str(folder),
        remedy="Use the config that made the checkpoint.",
      )
