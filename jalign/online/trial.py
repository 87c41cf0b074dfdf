"""Tries an algorithm's functions on made-up responses before training."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged
from jalign.online.carry import StepTaken, check_alike, copied
from jalign.online.draws import Cast
from jalign.online.judging import check_places
from jalign.online.settings import hyperparameters
from jalign.online.told import UNKNOWN_YET, tell, told
from jalign.online.updates import cut
from jalign.types import Params, Rollout, Sequences


def try_out(
  algorithm: Algorithm,
  params: Params,
  *,
  prompts: int,
  columns: int,
  start: Params | None = None,
  where: str = "algorithm_settings",
) -> Any:
  """Makes the first update's batch from made-up responses.

  Args:
    algorithm: the algorithm, with hyperparameters bound.
    params: the trained parameters, or their shapes.
    prompts: P, number of prompts of a round.
    columns: T, number of columns of the responses, 3 or more.
    start: a policy's parameters, or their shapes; None where they are the
      trained parameters.
    where: the section of the hyperparameters, for errors.

  Returns:
    A batch, whose numbers have no meaning.

  Raises:
    UserError: a function raises an error, refuses a hyperparameter or returns
      something unusable: `carry.next` another structure than `carry.init`, a
      draw or the reference something else than a policy's parameters, `arrange`
      something else than a batch of these prompts.
  """
  names = hyperparameters(algorithm)
  algorithm = told(algorithm)
  try:
    check_places(algorithm.needs, len(algorithm.draws))
    carry = _carried(algorithm, params)
    _check_cast(algorithm, params, params if start is None else start, carry)
    with np.errstate(all="ignore"):  # the numbers are zeros and don't matter
      judged = _made_up(algorithm, carry, prompts, columns)
      algorithm.measure(judged)
      batch = algorithm.arrange(judged)
    return cut(batch, algorithm.updates, jax.random.key(0), prompts)[0]
  except UserError as e:
    row = where.removesuffix("_settings")
    at = f"{where}.{e.where}" if e.where in names else f"{row}: {e.where}"
    at = at.removesuffix(": ")
    raise UserError(e.problem, where=at, remedy=e.remedy) from e


def _check_cast(
  algorithm: Algorithm, params: Params, start: Params, carry: Any
) -> None:
  """Checks that reference and draws return a policy's parameters."""
  shapes_of = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  usable = shapes_of(params), shapes_of(start)

  def given(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
      tree = jax.eval_shape(tell(function, name), *arguments)
    except UserError as e:
      if isinstance(e.__cause__, UNKNOWN_YET):
        return start  # the function needs numbers, and there are none yet
      raise
    if shapes_of(tree) not in usable:
      raise UserError(
        f"{name} gives no policy's parameters.",
        remedy="Return a tree with the structure and shapes of the policy's"
        " parameters, or of the trained parameters.",
      )
    return tree

  reference = given("reference", algorithm.reference, carry, start)
  cast = Cast(params, reference, carry)
  for draw in algorithm.draws:
    given(f"the draw {draw.name!r}", draw.params, cast)
  for scorer in algorithm.scored:
    given(f"the scorer {scorer.name!r}", scorer.params, cast)
  given("restart", algorithm.restart, carry, params)


class _Anything(dict):
  """Statistics that have a number for any name."""

  def __missing__(self, name: str) -> jax.Array:
    return jnp.float32(1)


def _carried(algorithm: Algorithm, params: Params) -> Any:
  """Zeros of the carry's shapes, after a check that `next` keeps the shapes."""
  carry = algorithm.carry

  def begin(params):
    return copied(carry.init(params))

  def go_on(old, params):
    return copied(carry.next(old, StepTaken(params, _Anything(), jnp.int32(1))))

  before = jax.eval_shape(begin, params)
  check_alike(before, jax.eval_shape(go_on, before, params))
  # NumPy's zeros take no memory until they are read.
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), before)


def _made_up(
  algorithm: Algorithm, carry: Any, prompts: int, columns: int
) -> Judged:
  """Responses of zeros, of which the last two columns count as sampled."""
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
    np.full((prompts, len(needs.pairs(size))), 0.5, np.float32),
    np.ones(prompts, np.float32),
    carry,
    jax.random.key(0),
    {scorer.name: zeros[:, 1:] for scorer in algorithm.scored},
    {},
    zeros[:, 1:] if needs.segments else None,
    zeros[:, 1:] if algorithm.critic else None,
  )
