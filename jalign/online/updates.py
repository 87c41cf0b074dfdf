"""How many updates are made on a round, and on which of its prompts."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.errors import UserError
from jalign.types import Array


class Updates(NamedTuple):
  """How many updates are made on a round's batch.

  Attributes:
    passes: number of passes over all prompts of the round, >= 1.
    minibatches: number of parts into which each pass is cut, >= 1; a divisor of
      the number of prompts. Each pass is cut in another order, and all
      responses to a prompt are in the same part.
  """

  passes: int = 1
  minibatches: int = 1

  @property
  def total(self) -> int:
    """Number of updates of a round."""
    return self.passes * self.minibatches


def cut(
  batch: Any, updates: Updates, key: Array, prompts: int
) -> tuple[Any, ...]:
  """Cuts a round's batch into the batches of its updates, in their order.

  Args:
    batch: a record with one or more examples per prompt; the number of rows of
      its arrays is a multiple of P, and the rows of a prompt are adjacent.
    updates: passes and minibatches.
    key: PRNG key of the order; unused if passes aren't cut.
    prompts: P, number of prompts.

  Raises:
    UserError: the batch isn't such a record, or the prompts don't divide into
      the minibatches.
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
  """Refuses a batch whose rows aren't a multiple of the number of prompts."""
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
        remedy="Give every prompt equally many rows, and keep the rows of a"
        " prompt adjacent.",
      )


def _taken(batch: Any, prompts: np.ndarray, count: int) -> Any:
  """The rows of some of the `count` prompts, by their indices."""

  def take(x):
    size = x.shape[0] // count
    rows = prompts[:, None] * size + np.arange(size)
    return x[rows.reshape(-1)]

  return jax.tree.map(take, batch)
