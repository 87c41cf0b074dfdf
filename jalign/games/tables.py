"""Policies that are tables: logits for each prefix of a short response.

Such a policy can be any distribution over the N = V^L responses of L tokens out
of V. `tabular` makes a table a `Model`, so that the decode loop, the losses and
the updates of language models run on it unchanged.

Arrays over responses [N] are in lexicographic order, in which the first token
is the most significant. Rows of a table are numbered so that prefix i followed
by token a is prefix V i + 1 + a.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.games.matrix import in_float64
from jalign.types import Array, Head, Model, Params


def sequences(vocab_size: int, length: int) -> np.ndarray:
  """The token ids of all responses, [N, L] int32."""
  grid = np.indices((vocab_size,) * length, np.int32)
  return grid.reshape(length, -1).T


def prefixes(vocab_size: int, length: int) -> int:
  """Number of prefixes of 0 to L - 1 tokens: the rows of a policy's table."""
  return sum(vocab_size**t for t in range(length))


def _levels(table: Array, length: int) -> list[Array]:
  """Splits a table [prefixes, V] into L arrays [V^t, V] by prefix length t."""
  v = table.shape[-1]
  at = [prefixes(v, t) for t in range(length + 1)]
  return [table[start:end] for start, end in zip(at, at[1:])]


def token_log_probs(logits: Array, length: int) -> Array:
  """Log-probs of each token of each response under a table of logits.

  Args:
    logits: [prefixes, V], any float type.
    length: L.

  Returns:
    [N, L] nats; the sum over L is the log-prob of the response.
  """
  v = logits.shape[-1]
  count = v**length
  steps = []
  for t, level in enumerate(_levels(logits, length)):
    log_policy = jax.nn.log_softmax(level).reshape(-1)
    steps.append(jnp.repeat(log_policy, count // v ** (t + 1)))
  return jnp.stack(steps, -1)


def log_probs(logits: Array, length: int) -> Array:
  """[N] log-probs (nats) of responses under a table of logits."""
  return token_log_probs(logits, length).sum(-1)


@in_float64
def table_of(log_policy: Array, vocab_size: int) -> Array:
  """The table of log-probs [prefixes, V] of any distribution over responses.

  Args:
    log_policy: [N] log-probs (nats), finite, normalised or not.
    vocab_size: V.
  """
  level = jnp.asarray(log_policy, jnp.float64)
  levels = []
  while level.size > 1:
    level = level.reshape(-1, vocab_size)
    levels.append(jax.nn.log_softmax(level))
    level = jax.nn.logsumexp(level, -1)
  return jnp.concatenate(levels[::-1])


@in_float64
def sequence_mixture(
  log_policy: Array, log_reference: Array, mix_ref: float | Array
) -> Array:
  """The geometric mixture over whole responses, normalised once.

  policy^(1 - mix_ref) reference^mix_ref / Z. This mixture can't be sampled
  token by token; `token_mixture` can.

  Munos et al. 2023, arXiv:2312.00886, section 4.

  Args:
    log_policy: [N] nats.
    log_reference: [N] nats.
    mix_ref: weight of the reference, in [0, 1].

  Returns:
    [N] nats.
  """
  mixed = (1 - mix_ref) * jnp.asarray(log_policy, jnp.float64)
  return jax.nn.log_softmax(mixed + mix_ref * jnp.asarray(log_reference))


@in_float64
def token_mixture(
  log_policy: Array,
  log_reference: Array,
  mix_ref: float | Array,
  vocab_size: int,
) -> Array:
  """The mixture normalised at each token, which `decode.geometric` samples.

  It equals `sequence_mixture` where the normaliser at a token is the same for
  all prefixes, for instance if tokens are independent.

  Munos et al. 2023, arXiv:2312.00886, section 7.

  Args:
    log_policy: [N] nats.
    log_reference: [N] nats.
    mix_ref: weight of the reference, in [0, 1].
    vocab_size: V.

  Returns:
    [N] nats.
  """
  mixed = (1 - mix_ref) * table_of(log_policy, vocab_size)
  mixed += mix_ref * table_of(log_reference, vocab_size)
  length = round(np.log(np.shape(log_policy)[-1]) / np.log(vocab_size))
  return log_probs(mixed, length)


@functools.lru_cache
def tabular(vocab_size: int, length: int) -> Model:
  """A language model that is a table: the policy of an enumerated game.

  A row of tokens is one prompt token, whose id doesn't matter, and up to L
  tokens of a response. The model's params are {"logits": [prefixes, V]}; `init`
  draws them from N(0, 1). A hidden state is a prefix's logits.

  Args:
    vocab_size: V.
    length: L.

  Returns:
    A `Model`; equal arguments return the same object.
  """

  def init(key: Array) -> Params:
    shape = prefixes(vocab_size, length), vocab_size
    return {"logits": jax.random.normal(key, shape)}

  def look_up(params: Params, node: Array) -> Array:
    # After the last token nothing is predicted, and any row will do.
    return params["logits"].at[node].get(mode="clip")

  def check(tokens: int) -> None:
    if tokens > length + 1:
      raise UserError(
        f"rows have {tokens} tokens, more than one prompt token and {length}"
        " tokens of a response.",
        where="games.tables.tabular",
        remedy="Prompts have one token; max_new_tokens is at most the length.",
      )

  def forward(
    params, tokens, positions=None, segment_ids=None, prefix_ids=None
  ):
    del positions, prefix_ids
    if segment_ids is not None:
      raise UserError("rows can't be packed.", where="games.tables.tabular")
    check(tokens.shape[1])
    nodes = [jnp.zeros_like(tokens[:, 0])]
    for t in range(1, tokens.shape[1]):
      nodes.append(vocab_size * nodes[-1] + 1 + tokens[:, t])
    return look_up(params, jnp.stack(nodes, 1))

  def head(params):
    return Head(jnp.eye(vocab_size, dtype=params["logits"].dtype))

  def init_cache(params, batch, size):
    del params
    check(size)
    return jnp.full(batch, -1, jnp.int32)  # nothing read yet

  def extend(params, tokens, lengths, cache):
    for c in range(tokens.shape[1]):
      child = jnp.where(cache < 0, 0, vocab_size * cache + 1 + tokens[:, c])
      cache = jnp.where(c < lengths, child, cache)
    return look_up(params, cache).astype(jnp.float32), cache

  return Model(init, forward, head, init_cache, extend)
