"""How many updates a round serves, and on which of its prompts."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.errors import UserError
from jalign.types import Array


class Updates(NamedTuple):
  """How often a round's batch is learned from.

  Attributes:
    passes: over all of its prompts, >= 1.
    minibatches: parts that each pass is cut into, anew each time, >= 1; a
      divisor of the prompts. All responses to a prompt are in the same part.
  """

  passes: int = 1
  minibatches: int = 1

  @property
  def total(self) -> int:
    """Updates of a round."""
    return self.passes * self.minibatches


def cut(
  batch: Any, updates: Updates, key: Array, prompts: int
) -> tuple[Any, ...]:
  """The batches of a round's updates, in their order.

  Args:
    batch: record of the prompts' examples, one or several of each; its arrays
      have a multiple of P rows, those of a prompt adjacent.
    updates: passes and minibatches.
    key: of the order; a pass that isn't cut has none.
    prompts: P.

  Raises:
    UserError: it isn't such a record, or the prompts don't divide into the
      parts.
  """
  _check_rows(batch, prompts)
  if prompts % updates.minibatches:
    raise UserError(
      f"{prompts} prompts don't divide into {updates.minibatches} minibatches.",
      where="minibatches",
      remedy="Choose a divisor of the batch size.",
    )
  if updates.minibatches == 1:
    return (batch,) * updates.passes
  size = prompts // updates.minibatches
  parts = []
  for pass_key in jax.random.split(key, updates.passes):
    order = np.asarray(jax.random.permutation(pass_key, prompts))
    parts += [
      _taken(batch, order[at : at + size], prompts)
      for at in range(0, prompts, size)
    ]
  return tuple(parts)


def _check_rows(batch: Any, prompts: int) -> None:
  """Refuses what has other rows than those of so many prompts."""
  if not hasattr(batch, "weights"):
    raise UserError(
      f"arrange gave a {type(batch).__name__}, not a batch.",
      remedy="Return a record of jalign.types, such as SequenceBatch.",
    )
  for path, x in jax.tree_util.tree_leaves_with_path(batch):
    shape = np.shape(x)
    if not shape or not shape[0] or shape[0] % prompts:
      raise UserError(
        f"arrange gave {type(batch).__name__}{jax.tree_util.keystr(path)} of"
        f" shape {shape} for {prompts} prompts.",
        remedy="Give as many rows to each prompt, those of a prompt adjacent.",
      )


def _taken(batch: Any, prompts: np.ndarray, count: int) -> Any:
  """The rows of some prompts of `count`."""

  def take(x):
    size = x.shape[0] // count
    rows = prompts[:, None] * size + np.arange(size)
    return x[rows.reshape(-1)]

  return jax.tree.map(take, batch)
