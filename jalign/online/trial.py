"""An algorithm's functions, called on made-up responses before it trains."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.online.algorithms import Algorithm
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
  """What the first update would be given, of responses that say nothing.

  Args:
    algorithm: hyperparameters bound.
    params: the trained parameters, or their shapes.
    prompts: P of a round.
    columns: T of its responses, 3 or more.
    start: a policy's parameters, or their shapes, where a part or a change is
      trained.
    where: the section of the hyperparameters, for errors.

  Returns:
    A batch; its numbers mean nothing.

  Raises:
    UserError: a function raises something, refuses a hyperparameter or gives
      what can't be used: `carry.next` another structure than `carry.init`, a
      draw no policy's parameters, `arrange` no batch of these prompts.
  """
  names = hyperparameters(algorithm)
  algorithm = told(algorithm)
  try:
    check_places(algorithm.needs, len(algorithm.draws))
    carry = _carried(algorithm, params)
    _check_cast(algorithm, params, params if start is None else start, carry)
    with np.errstate(all="ignore"):  # of zeros; numbers don't matter
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
  """Looks at whose parameters are drawn from and compared with."""
  shapes_of = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  usable = shapes_of(params), shapes_of(start)

  def given(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
      tree = jax.eval_shape(tell(function, name), *arguments)
    except UserError as e:
      if isinstance(e.__cause__, UNKNOWN_YET):
        return start  # it looks at numbers, and there are none yet
      raise
    if shapes_of(tree) not in usable:
      raise UserError(
        f"{name} gives no policy's parameters.",
        remedy="Give a tree such as the policy's, or as is trained.",
      )
    return tree

  reference = given("reference", algorithm.reference, carry, start)
  cast = Cast(params, reference, carry)
  for draw in algorithm.draws:
    given(f"the draw {draw.name!r}", draw.params, cast)


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
