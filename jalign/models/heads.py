"""Heads that compute a response's score from a model's hidden states.

`HEADS` lists the heads by name, as configs name them.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
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
    scores: `(params, features [B, D]) -> [B, M]` float32, a number per response
      and objective.
  """

  init: Callable[[Array], Params]
  score: Any = None
  compare: Any = None
  embed: Any = None
  scores: Any = None


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


def values(params: Params, hidden: Array) -> Array:
  """The scores of `scalar` at every token: [B, T, D] -> [B, T] float32.

  A critic computes values of states by this map; see
  `jalign.experiment.reward_start.critic_params`.
  """
  chex.assert_rank(hidden, 3)
  return hidden.astype(jnp.float32) @ params["weight"] + params["bias"]


def pairwise(hidden_size: int, *, rank: int = 4) -> ScoreHead:
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

  Raises:
    UserError: `rank` is below 1.
  """
  _check_size("rank", rank)

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


def objectives(hidden_size: int, *, count: int = 2) -> ScoreHead:
  """A reward model's head for several objectives: M numbers per response.

  The objectives share the model and nothing else. Like `scalar`, the head
  starts at zero.

  Args:
    hidden_size: D.
    count: M, number of objectives.

  Returns:
    A head with `scores`.

  Raises:
    UserError: `count` is below 1.
  """
  _check_size("count", count)

  def init(key):
    del key
    return {
      "weight": jnp.zeros((hidden_size, count)),
      "bias": jnp.zeros(count),
    }

  def scores(params, features):
    chex.assert_rank(features, 2)
    return features.astype(jnp.float32) @ params["weight"] + params["bias"]

  return ScoreHead(init, scores=scores)


def general(hidden_size: int, *, width: int = 4) -> ScoreHead:
  """A general preference model's head: an embedding per response.

  Zhang et al. 2024, "General Preference Modeling with Preference
  Representations for Aligning Language Models", arXiv:2410.02197. (The paper
  also scales embeddings to one length and weighs their planes by the prompt,
  which this head doesn't do.)

  Args:
    hidden_size: D.
    width: Z, size of the embedding, an even number. Width 2 fits a cycle of
      three responses.

  Returns:
    A head with `embed`.

  Raises:
    UserError: `width` is odd or below 2.
  """
  _check_size("width", width, least=2)
  if width % 2:
    raise UserError(
      f"width is {width}, and an embedding consists of pairs of numbers.",
      where="head.width",
      remedy="Give an even number.",
    )

  def init(key):
    # At zero the preference, which is bilinear, would have no gradient.
    weight = jax.random.normal(key, (hidden_size, width)) / hidden_size**0.5
    return {"weight": weight, "bias": jnp.zeros(width)}

  def embed(params, features):
    chex.assert_rank(features, 2)
    return features.astype(jnp.float32) @ params["weight"] + params["bias"]

  return ScoreHead(init, embed=embed)


# Name in configs -> `(hidden_size, **settings) -> ScoreHead`.
HEADS: Mapping[str, Callable[..., ScoreHead]] = MappingProxyType(
  {
    "scalar": scalar,
    "objectives": objectives,
    "pairwise": pairwise,
    "general": general,
  }
)


def _check_size(name: str, value: Any, least: int = 1) -> None:
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or value < least:
    raise UserError(
      f"{name} is {value!r}.",
      where=f"head.{name}",
      remedy=f"Give a whole number, {least} or more.",
    )
