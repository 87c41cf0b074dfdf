"""Random batches for tests of training."""

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import ScoreBatch
from jalign.types import (
  ListBatch,
  PairBatch,
  RolloutBatch,
  SequenceBatch,
  Sequences,
  UnpairedBatch,
)


def sequences(rows, length=12, seed=0, vocab=64):
  """Rows of different lengths, with at least two scored tokens each."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(5, length + 1, rows)
  starts = np.minimum(rng.integers(1, length - 3, rows), lengths - 2)
  columns = np.arange(length)[None]
  tokens = rng.integers(1, vocab, (rows, length))
  live = columns < lengths[:, None]
  return Sequences(
    jnp.asarray(np.where(live, tokens, 0), jnp.int32),
    jnp.asarray(live & (columns >= starts[:, None])),
    jnp.asarray(lengths, jnp.int32),
  )


def pairs(count, seed=0, fill=0, **fields):
  """P pairs, the last `fill` of them with weight 0."""
  return PairBatch(
    sequences(2 * count, seed=seed), _weights(count, fill), **fields
  )


def singles(count, seed=0, fill=0, **fields):
  """B single sequences, the last `fill` of them with weight 0."""
  return SequenceBatch(
    sequences(count, seed=seed), _weights(count, fill), **fields
  )


def lists(count, size=3, seed=0, fill=0):
  """B lists of up to K responses, the last `fill` of them with weight 0."""
  rng = np.random.default_rng(seed)
  valid = np.arange(size) < rng.integers(2, size + 1, count)[:, None]
  return ListBatch(
    sequences(count * size, seed=seed),
    _weights(count, fill),
    scores=jnp.asarray(rng.normal(size=(count, size)), jnp.float32),
    valid=jnp.asarray(valid),
  )


def unpaired(count, seed=0, fill=0):
  """B labelled responses, the last `fill` of them with weight 0."""
  rng = np.random.default_rng(seed)
  return UnpairedBatch(
    sequences(count, seed=seed),
    _weights(count, fill),
    desirable=jnp.asarray(rng.uniform(size=count) < 0.5),
    mismatched=sequences(count, seed=seed + 1),
    mismatched_cut=jnp.zeros(count),
    unmatched=jnp.zeros(count),
    desirable_rate=jnp.asarray(rng.uniform(size=count), jnp.float32),
  )


def rollouts(count, size=3, seed=0, fill=0, advantages=False):
  """B prompts with up to K samples, the last `fill` of them with weight 0."""
  rng = np.random.default_rng(seed)
  rows = sequences(count * size, seed=seed)
  valid = np.arange(size) < rng.integers(2, size + 1, count)[:, None]
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  scored = rows.mask[:, 1:]
  return RolloutBatch(
    rows,
    _weights(count, fill),
    rewards=draw(count, size),
    valid=jnp.asarray(valid),
    old_token_logps=jnp.where(scored, draw(*scored.shape) - 4, 0.0),
    advantages=draw(*scored.shape) if advantages else None,
  )


def scored_pairs(count, seed=0, fill=0, **fields):
  """P pairs for a score head, the last `fill` of them with weight 0."""
  return ScoreBatch(
    sequences(2 * count, seed=seed),
    _weights(count, fill),
    ranks=jnp.tile(jnp.array([1.0, 2.0]), (count, 1)),
    valid=jnp.ones((count, 2), bool),
    **fields,
  )


def _weights(count, fill):
  weights = np.ones(count, np.float32)
  if fill:
    weights[-fill:] = 0
  return jnp.asarray(weights)


def take(batch, index):
  """The examples at some indices, as a batch."""
  examples = batch.weights.shape[0]
  index = np.asarray(index)

  def rows(x):
    per = x.shape[0] // examples
    at = (index[:, None] * per + np.arange(per)).reshape(-1)
    return x[at]

  return jax.tree.map(rows, batch)
