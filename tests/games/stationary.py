"""Online algorithms' stationary points and gradients on an enumerated game.

A row of `ROWS` adds an algorithm of jalign.online to the tests: which
distributions it draws from, and how strongly it is pulled to the reference.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign import losses
from jalign.games import sequence_game, tables
from jalign.online import ALGORITHMS, MIXTURE, drawn_pairs, first_responses

GAME = sequence_game.cyclic_game()
V, L = GAME.vocab_size, GAME.length


class Row(NamedTuple):
  """An online algorithm in exact terms.

  Attributes:
    settings: hyperparameters of the loss.
    speed: learning rate that suits the scale of the gradient.
    mix_ref: the reference's weight in the mixture.
  """

  settings: dict[str, float]
  speed: float
  mix_ref: float = 0.4


ROWS = {
  "online_dpo": Row({"beta": 0.5}, 20.0),
  "online_ipo": Row({"tau": 0.1}, 0.25),
  "ipo_md": Row({"tau": 0.1}, 0.25),
  "nash_md": Row({"tau": 0.1}, 20.0),
  "nash_md_token_kl": Row({"tau": 0.1}, 20.0),
}


def loss_of(name: str) -> Callable[..., jax.Array]:
  """The loss of an algorithm with the row's hyperparameters."""
  function = losses.CATALOGUE[ALGORITHMS[name].loss].function
  return functools.partial(function, **ROWS[name].settings)


@functools.cache
def exact_gradient(name: str) -> Callable[[jax.Array], jax.Array]:
  """`table -> ` expected gradient of the loss on the policy's own samples."""
  algorithm, loss = ALGORITHMS[name], loss_of(name)

  def drawn_from(table, mixture):
    log_policy = tables.log_probs(table, L)
    if not mixture:
      return log_policy
    return tables.token_mixture(
      log_policy, GAME.log_reference, ROWS[name].mix_ref, V
    )

  def expected(table, sampled):
    first, second = (
      drawn_from(sampled, draw is MIXTURE) for draw in algorithm.draws
    )
    if algorithm.arrange is first_responses:
      return sequence_game.expected_response_loss(
        loss, table, GAME, first, second
      )
    soft = algorithm.arrange is not drawn_pairs
    return sequence_game.expected_pair_loss(loss, table, GAME, first, soft=soft)

  return jax.jit(lambda table: jax.grad(expected)(table, table))


@functools.cache
def stationary(name: str) -> np.ndarray:
  """[N] policy at which the expected gradient is 0, to 1e-13."""
  gradient = exact_gradient(name)

  def body(carry):
    table = carry[0] - ROWS[name].speed * carry[1]
    return table, gradient(table)

  going = lambda carry: jnp.abs(carry[1]).max() > 1e-13
  with jax.enable_x64(True):
    start = tables.table_of(GAME.log_reference, V)
    table, _ = jax.jit(lambda x: jax.lax.while_loop(going, body, x))(
      (start, gradient(start))
    )
    return np.exp(np.asarray(tables.log_probs(table, L)))
