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


def cut(batch: Any, updates: Updates, key: Array) -> tuple[Any, ...]:
  """The batches of a round's updates, in their order.

  Args:
    batch: record of P prompts' examples, with `weights` [P]; each of its
      arrays has a multiple of P rows.
    updates: passes and minibatches.
    key: of the order; a pass that isn't cut has none.

  Raises:
    UserError: the prompts don't divide into the parts.
  """
  count = len(batch.weights)
  if count % updates.minibatches:
    raise UserError(
      f"{count} prompts don't divide into {updates.minibatches} minibatches.",
      where="minibatches",
      remedy="Choose a divisor of the batch size.",
    )
  if updates.minibatches == 1:
    return (batch,) * updates.passes
  size = count // updates.minibatches
  parts = []
  for one in jax.random.split(key, updates.passes):
    order = np.asarray(jax.random.permutation(one, count))
    parts += [
      _taken(batch, order[at : at + size], count)
      for at in range(0, count, size)
    ]
  return tuple(parts)


def _taken(batch: Any, prompts: np.ndarray, count: int) -> Any:
  """The rows of some prompts of `count`."""

  def take(x):
    each = x.shape[0] // count
    rows = prompts[:, None] * each + np.arange(each)
    return x[rows.reshape(-1)]

  return jax.tree.map(take, batch)
