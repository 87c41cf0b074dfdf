"""Arranges responses and judgements into a batch that a loss takes.

Rows of the rollout may lie on devices of several processes. Operations of JAX
work on them as on any array; `jalign.sharding.fetch` copies them to the host.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.types import Array, PairBatch, Rollout, SequenceBatch, Sequences


class Judged(NamedTuple):
  """Responses to P prompts, K to each, and the judge's answers about them.

  Attributes:
    rollout: P * K rows, the responses of a prompt adjacent; see
      `draw_responses` for its log-probs.
    rewards: [P, K] float64; None where the judge has no reward.
    costs: [P, K] float64; None where the judge has no cost.
    preference: [P, J] float32 P(the first > the second) for the J pairs of
      draws that the algorithm has compared.
    weights: [P] float32; 0 marks a prompt that only fills the batch, or about
      which the judge gave no answer.
    carry: the algorithm's own state.
    key: PRNG key for an `arrange` that draws.
    logps: by name of a model of `Algorithm.scored`, [P * K, T - 1] float32
      log-probs of tokens 1 .. T - 1 of the rollout under that model, 0 where a
      token isn't sampled.
    parts: by name, [P, K] float64, the numbers that a judge's reward is made
      of; empty where the judge has one number.
    token_rewards: [P * K, T - 1] float32 rewards of these tokens, which add up
      to the rewards of segments; None unless the algorithm needs segments.
    values: [P * K, T - 1] float32, the critic's value before each of these
      tokens, 0 where a token isn't sampled; None without a critic.
  """

  rollout: Rollout
  rewards: np.ndarray | None
  costs: np.ndarray | None
  preference: np.ndarray
  weights: np.ndarray
  carry: Any
  key: Array
  logps: Mapping[str, Array] = types.MappingProxyType({})
  parts: Mapping[str, np.ndarray] = types.MappingProxyType({})
  token_rewards: Array | None = None
  values: Array | None = None

  @property
  def old_token_logps(self) -> Array:
    """[P * K, T - 1] log-probs of tokens 1 .. T - 1 under the drawing model.

    That is the model that drew the response, without mixture and temperature.
    """
    return self.rollout.model_logps[0][:, 1:]

  @property
  def behaviour_logps(self) -> Array:
    """[P * K, T - 1] log-probs under the distribution that was drawn from.

    That is after temperature, truncation and mixture.
    """
    return self.rollout.logps[:, 1:]

  @property
  def ref_token_logps(self) -> Array:
    """[P * K, T - 1] `logps` under the model of the name "reference"."""
    return self.logps["reference"]

  @property
  def mask(self) -> Array:
    """[P * K, T - 1] bool, True on sampled tokens among tokens 1 .. T - 1."""
    return self.rollout.sequences.mask[:, 1:]


def drawn_pairs(judged: Judged) -> PairBatch:
  """Pairs of the two responses, ordered by one Bernoulli draw per pair."""
  preference = judged.preference[:, 0]
  uniforms = np.asarray(jax.random.uniform(judged.key, preference.shape))
  sequences = _ordered(judged.rollout.sequences, uniforms < preference)
  return PairBatch(sequences, jnp.asarray(judged.weights))


def soft_pairs(judged: Judged) -> PairBatch:
  """Pairs of the two responses with the preference itself as the label.

  The response that is likelier to be preferred comes first, so that "chosen" in
  the metrics means that response; a loss with soft labels doesn't change under
  the swap.
  """
  preference = judged.preference[:, 0]
  soft = jnp.asarray(np.maximum(preference, 1.0 - preference))
  sequences = _ordered(judged.rollout.sequences, preference >= 0.5)
  return PairBatch(sequences, jnp.asarray(judged.weights), preference=soft)


def first_responses(judged: Judged) -> SequenceBatch:
  """The first of the two responses, with P(it beats the second response)."""
  return SequenceBatch(
    firsts(judged.rollout.sequences),
    jnp.asarray(judged.weights),
    preference=jnp.asarray(judged.preference[:, 0]),
  )


@jax.jit
def _ordered(sequences: Sequences, first_wins: np.ndarray) -> Sequences:
  """Orders 2P rows so that the winner of each pair comes first.

  The two rows of a pair lie on one device.
  """

  def swap(x):
    pairs = x.reshape(-1, 2, *x.shape[1:])
    flags = first_wins.reshape(-1, *(1,) * x.ndim)
    return jnp.where(flags, pairs, pairs[:, ::-1]).reshape(x.shape)

  return jax.tree.map(swap, sequences)


@jax.jit
def firsts(rows: Any) -> Any:
  """The first row of each pair of rows, on its own device."""
  return jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:])[:, 0], rows)


@functools.partial(jax.jit, static_argnames="size")
def picked(tree: Any, places: Any, size: int) -> Any:
  """Some of the rows of each prompt; all stay on their device.

  Args:
    tree: arrays with P * K rows, the rows of a prompt adjacent.
    places: [P, k] places of rows among the K of a prompt.
    size: K.

  Returns:
    Arrays with P * k rows.
  """
  places = jnp.asarray(places)

  def take(x):
    rows = x.reshape(-1, size, *x.shape[1:])
    at = places.reshape(*places.shape, *(1,) * (x.ndim - 1))
    taken = jnp.take_along_axis(rows, at, 1)
    return taken.reshape(-1, *x.shape[1:])

  return jax.tree.map(take, tree)
