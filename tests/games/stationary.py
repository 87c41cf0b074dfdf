"""Online algorithms' gradients and stationary points on an enumerated game.

`ROWS` has an exact objective for every algorithm of `jalign.online`, written
from the paper's formula and without the algorithm's own functions.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jalign.games import tables
from tests.games import exact_games, exact_iterates, exact_rewards
from tests.games.row import Row
from tests.games.world import KEPT, LOG_REFERENCE, TABLE, Here, L, V

ROWS: dict[str, Row] = {
  **exact_games.ROWS,
  **exact_iterates.ROWS,
  **exact_rewards.ROWS,
}
# Algorithms without an objective on this game, and why.
UNCOVERED: dict[str, str] = {}


def gradient_of(row: Row) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """`(table, kept) -> ` [prefixes, V] the expected gradient of an update.

  Both arguments are tables of policies: the trained policy, which also draws,
  and the policy that the carry keeps.
  """

  def gradient(table, kept):
    here = Here(tables.log_probs(table, L), tables.log_probs(kept, L))
    objective = lambda x: row.objective(tables.token_log_probs(x, L), here)
    return jax.grad(objective)(table)

  return gradient


def exact_of(row: Row) -> np.ndarray:
  """[prefixes, V] the expected gradient at TABLE, with KEPT in the carry."""
  with jax.enable_x64(True):
    at = [jnp.asarray(x, jnp.float64) for x in (TABLE, KEPT)]
    return np.asarray(gradient_of(row)(*at))


@functools.cache
def exact(name: str) -> np.ndarray:
  """[prefixes, V] the expected gradient of an algorithm; see `exact_of`."""
  return exact_of(ROWS[name])


@functools.cache
def stationary(name: str) -> np.ndarray:
  """[N] policy at which training settles, once the carry has caught up."""
  row = ROWS[name]
  return row.point() if row.point else descended(row)


def descended(row: Row) -> np.ndarray:
  """[N] policy at which the expected gradient is 0, to 1e-13."""
  gradient = gradient_of(row)

  def body(carry):
    table = carry[0] - row.speed * carry[1]
    return table, gradient(table, table)

  going = lambda carry: jnp.abs(carry[1]).max() > 1e-13
  with jax.enable_x64(True):
    start = tables.table_of(LOG_REFERENCE, V)
    table, _ = jax.jit(lambda x: jax.lax.while_loop(going, body, x))(
      (start, gradient(start, start))
    )
    return np.exp(np.asarray(tables.log_probs(table, L)))
