"""Heads that compute a response's score from a model's hidden states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.types import Array, Params, Sequences


class ScoreHead(NamedTuple):
  """A head as a record of functions.

  Functions that a head doesn't have are None. Features are the hidden states
  that `last_hidden` returns.

  Attributes:
    init: `key -> params`.
    score: `(params, features [B, D]) -> [B]` float32, one number per response.
    compare: `(params, a [B, D], b [B, D]) -> [B]` float32 logits of P(a > b).
    embed: `(params, features [B, D]) -> [B, Z]` float32 embeddings, from which
      `jalign.losses.general_preference_score` computes the logits.
  """

  init: Callable[[Array], Params]
  score: Any = None
  compare: Any = None
  embed: Any = None


def last_hidden(hidden: Array, sequences: Sequences) -> Array:
  """Takes each row's hidden state at its last token: [B, T, D] -> [B, D]."""
  chex.assert_equal_shape_prefix([hidden, sequences.tokens], 2)
  last = jnp.maximum(sequences.lengths - 1, 0)[:, None, None]
  return jnp.take_along_axis(hidden, last, axis=1)[:, 0]


def scalar(hidden_size: int) -> ScoreHead:
  """A reward model's head, with `score`: one number per response.

  The head starts at zero, so that all responses score the same.

  Ouyang et al. 2022, arXiv:2203.02155, section 3.5.
  """

  def init(key):
    del key
    return {"weight": jnp.zeros(hidden_size), "bias": jnp.zeros(())}

  def score(params, features):
    chex.assert_rank(features, 2)
    return features.astype(jnp.float32) @ params["weight"] + params["bias"]

  return ScoreHead(init, score=score)


def pairwise(hidden_size: int, rank: int = 4) -> ScoreHead:
  """A preference model's head, antisymmetric by construction.

  logit P(a > b) = r(a) - r(b) + sum_i [u_i(a) v_i(b) - v_i(a) u_i(b)]

  The difference of the scores r is Bradley-Terry; the skew form adds cycles:
  rank 1 is enough for any preference cycle over three responses. Swapping the
  arguments negates the logit exactly. An embedding is
  (u_1, v_1, u_2, v_2, ..., r, 1).

  Zhang et al. 2024, "Beyond Bradley-Terry Models: A General Preference Model
  for Language Model Alignment", arXiv:2410.02197 (the skew form).

  Args:
    hidden_size: D.
    rank: number of pairs (u_i, v_i).

  Returns:
    A head with `compare`, and with `embed` for Z = 2 rank + 2.
  """

  def init(key):
    planes = jax.random.normal(key, (2, hidden_size, rank)) / hidden_size**0.5
    return {"score": jnp.zeros(hidden_size), "u": planes[0], "v": planes[1]}

  def compare(params, a, b):
    chex.assert_rank([a, b], [2, 2])
    chex.assert_equal_shape([a, b])
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    skew = lambda x, y: jnp.sum((x @ params["u"]) * (y @ params["v"]), -1)
    score = lambda x: x @ params["score"]
    return score(a) - score(b) + (skew(a, b) - skew(b, a))

  def embed(params, features):
    chex.assert_rank(features, 2)
    x = features.astype(jnp.float32)
    score = (x @ params["score"])[:, None]
    planes = jnp.stack([x @ params["u"], x @ params["v"]], -1)
    flat = planes.reshape(len(x), -1)
    return jnp.concatenate([flat, score, jnp.ones_like(score)], -1)

  return ScoreHead(init, compare=compare, embed=embed)
