"""Sampled gradients and training on the enumerated game, by the real loop."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jalign import losses
from jalign.data import PromptBatch
from jalign.feedback import Judge
from jalign.games import sequence_game, tables
from jalign.online import (
  ALGORITHMS,
  beside_carry,
  init_carry,
  make_finish,
  make_round,
)
from jalign.online.algorithms import Algorithm
from jalign.online.iterate import Round
from jalign.online.settings import bind
from jalign.training.critic import CRITIC, policy_of
from jalign.training.objective import Objective, make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.training.trainable import MODEL as MODEL_KEY
from jalign.types import Params
from tests.games.row import Row
from tests.games.stationary import ROWS
from tests.games.world import (
  CRITIC_BIAS,
  CRITIC_WEIGHT,
  JUDGE,
  KEPT,
  LOG_REFERENCE,
  TABLE,
  L,
  V,
)

MODEL = tables.tabular(V, L)


def params_of(table) -> Params:
  """The parameters of the policy that is a table."""
  return {"logits": jnp.asarray(np.asarray(table, np.float32))}


def tree_of(algorithm: Algorithm, table) -> Params:
  """What an algorithm trains, where the policy is a table.

  That is the policy, or the policy and a critic, whose values aren't right.
  """
  policy = params_of(table)
  if not algorithm.critic:
    return policy
  head = {"weight": jnp.array(CRITIC_WEIGHT, jnp.float32)}
  head["bias"] = jnp.float32(CRITIC_BIAS)
  return {
    MODEL_KEY: policy,
    CRITIC: {MODEL_KEY: params_of(KEPT), "head": head},
  }


@functools.cache
def reference_params() -> Params:
  """The parameters of the reference."""
  return params_of(tables.table_of(LOG_REFERENCE, V))


def prompts_of(count: int) -> PromptBatch:
  """Prompts, which are all the same."""
  return PromptBatch(
    np.zeros((count, 1), np.int32),
    np.ones(count, np.int32),
    np.ones(count, np.float32),
    [""] * count,
  )


def algorithm_of(name: str, row: Row | None = None) -> Algorithm:
  """The algorithm with the row's hyperparameters, and one update a round."""
  settings = (ROWS[name] if row is None else row).settings
  return bind(ALGORITHMS[name], {"passes": 1, "minibatches": 1, **settings})


def round_of(
  row: Row, algorithm: Algorithm, judge: Judge = JUDGE
) -> Callable[..., Round]:
  """The function that plays a round of the game."""
  return make_round(
    algorithm,
    MODEL,
    judge,
    sequence_game.decode,
    max_new_tokens=L,
    stop_ids=(),
    mix_ref=row.mix_ref,
    whole=policy_of,
  )


@functools.cache  # several algorithms share a loss
def _objective(loss, settings: tuple[tuple[str, object], ...]) -> Objective:
  if isinstance(loss, str):
    function, entry = losses.resolve(loss, **dict(settings))
  else:
    function, entry = functools.partial(loss.function, **dict(settings)), loss
  return make_objective(
    function,
    MODEL,
    batch=entry.batch,
    denominator=entry.denominator,
    coupled=entry.coupled,
  )


def objective_of(algorithm: Algorithm, settings: Mapping[str, object]):
  """The objective of an algorithm's loss with hyperparameters."""
  return _objective(algorithm.loss, tuple(settings.items()))


@functools.partial(jax.jit, static_argnames=("objective", "chunks"))
def _gradients(objective, params, batch, reference, chunks):
  def gradient(part):
    grads, (count, _) = jax.grad(objective.sums, has_aux=True)(
      params, part, reference
    )
    return policy_of(grads)["logits"] / count

  cut = lambda x: x.reshape(chunks, -1, *x.shape[1:])
  return jax.lax.map(gradient, jax.tree.map(cut, batch))


def estimates_of(
  row: Row,
  algorithm: Algorithm,
  judge: Judge = JUDGE,
  chunks: int = 256,
) -> np.ndarray:
  """[chunks, prefixes, V] gradients of parts of a round's batch.

  The policy is that of TABLE, and the carry keeps that of KEPT.
  """
  start, kept = reference_params(), tree_of(algorithm, KEPT)
  params = tree_of(algorithm, TABLE)
  carry = algorithm.carry.init(kept)
  if row.carry:
    carry = row.carry(carry, kept)
  play = round_of(row, algorithm, judge)
  got = play(params, start, prompts_of(row.prompts), jax.random.key(0), carry)
  objective = objective_of(algorithm, row.loss)
  reference = algorithm.reference(carry, start)
  return np.asarray(
    _gradients(objective, params, got.batches[0], reference, chunks)
  )


@functools.cache  # several tests look at the same estimates
def estimates(name: str) -> np.ndarray:
  """[chunks, prefixes, V] sampled gradients of an algorithm."""
  return estimates_of(ROWS[name], algorithm_of(name))


def worst(some: np.ndarray, exact: np.ndarray) -> float:
  """Largest |z| of the estimates' mean against the exact gradient."""
  error = some.std(0, ddof=1) / np.sqrt(len(some))
  return float(np.abs((some.mean(0) - exact) / error).max())


def trained(name: str) -> np.ndarray:
  """[N] policy after training from the reference.

  The optimiser is Adam without momentum, with a rate that falls to 0: its steps
  don't depend on the scale of the loss, and prefixes that are rare learn as
  fast as others.
  """
  row, algorithm = ROWS[name], algorithm_of(name)
  rate = optax.polynomial_schedule(row.rate, 0.0, 2, row.steps)
  optimizer = optax.adam(rate, b1=0.0, b2=0.95)
  update = beside_carry(
    make_update(objective_of(algorithm, row.loss), optimizer, counts=False),
    algorithm.reference,
  )
  finish = make_finish(algorithm.carry, restart=algorithm.restart)
  play, start = round_of(row, algorithm), reference_params()
  first = tree_of(algorithm, start["logits"])
  state = init_state(first, optimizer)
  state = state.replace(carry=init_carry(algorithm.carry, first))
  given = prompts_of(row.prompts // 16)
  for step in range(row.steps):
    key = jax.random.fold_in(jax.random.key(0), step)
    got = play(state.params, start, given, key, state.carry)
    state, sums = update(state, got.batches[0], start)
    state, _ = finish(state, got.values, [sums])
  with jax.enable_x64(True):
    table = jnp.asarray(np.asarray(policy_of(state.params)["logits"]), float)
    return np.exp(np.asarray(tables.log_probs(table, L)))
