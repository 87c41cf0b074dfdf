"""An algorithm's functions, called on made-up responses before it trains."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.online.algorithms import Algorithm
from jalign.online.arrange import Judged
from jalign.online.carry import StepTaken, check_alike, copied
from jalign.online.updates import cut
from jalign.types import Params, Rollout, Sequences


def try_out(
  algorithm: Algorithm,
  params: Params,
  *,
  prompts: int,
  columns: int,
  where: str = "algorithm_settings",
) -> Any:
  """What the first update would be given, of responses that say nothing.

  Args:
    algorithm: hyperparameters bound.
    params: the trained parameters, or their shapes.
    prompts: P of a round.
    columns: T of its responses, 3 or more.
    where: the section of the hyperparameters, for errors.

  Returns:
    A batch; its numbers mean nothing.

  Raises:
    UserError: a function refuses a hyperparameter, `carry.next` gives another
      structure than `carry.init`, or the prompts don't divide into minibatches.
  """
  try:
    carry = _carried(algorithm, params)
    with np.errstate(all="ignore"):  # of zeros; numbers don't matter
      judged = _made_up(algorithm, carry, prompts, columns)
      algorithm.measure(judged)
      batch = algorithm.arrange(judged)
    return cut(batch, algorithm.updates, jax.random.key(0))[0]
  except UserError as e:
    raise UserError(e.problem, where=where, remedy=e.remedy) from e


class _Anything(dict):
  """Statistics under whatever name."""

  def __missing__(self, name: str) -> jax.Array:
    return jnp.float32(1)


def _carried(algorithm: Algorithm, params: Params) -> Any:
  """Zeros of the carry's shapes, which are checked to last."""
  carry = algorithm.carry

  def begin(params):
    return copied(carry.init(params))

  def go_on(old, params):
    return copied(carry.next(old, StepTaken(params, _Anything(), jnp.int32(1))))

  before = jax.eval_shape(begin, params)
  check_alike(before, jax.eval_shape(go_on, before, params))
  # NumPy's zeros take no memory until somebody looks at them.
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), before)


def _made_up(
  algorithm: Algorithm, carry: Any, prompts: int, columns: int
) -> Judged:
  needs, size = algorithm.needs, len(algorithm.draws)
  rows = prompts * size
  mask = jnp.zeros((rows, columns), bool).at[:, -2:].set(True)
  sequences = Sequences(
    jnp.zeros((rows, columns), jnp.int32),
    mask,
    jnp.full(rows, columns, jnp.int32),
  )
  zeros = jnp.zeros((rows, columns), jnp.float32)
  rollout = Rollout(
    sequences,
    jnp.full(rows, columns - 2, jnp.int32),
    zeros,
    zeros[None],
    jnp.ones(rows, bool),
  )
  numbers = np.zeros((prompts, size))
  return Judged(
    rollout,
    numbers if needs.reward else None,
    numbers if needs.cost else None,
    np.full((prompts, len(needs.preference)), 0.5, np.float32),
    np.ones(prompts, np.float32),
    carry,
    jax.random.key(0),
    zeros[:, 1:] if algorithm.ref_logps else None,
  )
