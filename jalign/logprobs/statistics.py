"""Log-probs of tokens and sequences, and other statistics of the same pass."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.logprobs import tiles
from jalign.logprobs.dense import by_chunks, logits
from jalign.logprobs.stream import Static, stream
from jalign.types import Array, Head, Model, Params, Sequences

STATISTICS = ("entropy", "lse", "mean_logit", "top")


class TokenStatistics(NamedTuple):
  """Statistics of one pass over the vocabulary; None if not asked for.

  All are statistics of the logits z after soft cap and temperature.

  Attributes:
    logps: [B, T] float32 log-prob of each target, nats.
    entropy: [B, T] float32 entropy of the next-token distribution, nats.
    lse: [B, T] float32 log sum_v exp z_v; its square is the z-loss.
    mean_logit: [B, T] float32 mean over the vocabulary of z_v.
    top_logp: [B, T] float32 largest log-prob, nats; it has no gradient.
    top_token: [B, T] int32, the token of the largest log-prob, the first among
      equals.
  """

  logps: Array
  entropy: Array | None = None
  lse: Array | None = None
  mean_logit: Array | None = None
  top_logp: Array | None = None
  top_token: Array | None = None


def token_logprobs(
  hidden: Array,
  head: Head,
  targets: Array,
  *,
  tile: int | None = None,
  temperature: float | Array = 1.0,
  mask: Array | None = None,
) -> Array:
  """Log-prob of each target token, streamed over the vocabulary.

  Differentiable with respect to `hidden` and the head's weight.

  Args:
    hidden: [B, T, D] states that predict the targets.
    head: the model's head.
    targets: [B, T] int32 token ids.
    tile: vocabulary columns of one tile; None chooses by the number of tokens.
    temperature: divides the logits after the soft cap, > 0; a number, [] or
      [B]. It may be traced, and no gradient flows to it.
    mask: [B, T] bool, the tokens that count; None for all. No product with the
      vocabulary is computed for other tokens, which saves their share of time.

  Returns:
    [B, T] float32, nats; 0 where a token doesn't count.

  Raises:
    AssertionError: shapes differ.
  """
  return token_statistics(
    hidden,
    head,
    targets,
    want=(),
    tile=tile,
    temperature=temperature,
    mask=mask,
  ).logps


def token_statistics(
  hidden: Array,
  head: Head,
  targets: Array,
  *,
  want: tuple[str, ...] = ("entropy",),
  tile: int | None = None,
  temperature: float | Array = 1.0,
  mask: Array | None = None,
) -> TokenStatistics:
  """As `token_logprobs`, with other statistics of the same pass.

  All statistics but "top" are differentiable with respect to `hidden` and the
  head's weight. Statistics that aren't wanted aren't computed.

  Args:
    hidden: [B, T, D] states that predict the targets.
    head: the model's head.
    targets: [B, T] int32 token ids.
    want: names among `STATISTICS`: "entropy", "lse", "mean_logit", "top".
    tile: vocabulary columns of one tile; None chooses by the number of tokens.
    temperature: divides the logits after the soft cap, > 0; a number, [] or
      [B]. It may be traced, and no gradient flows to it.
    mask: [B, T] bool, the tokens that count; None for all.

  Returns:
    TokenStatistics of [B, T] arrays, 0 where a token doesn't count.

  Raises:
    AssertionError: shapes differ.
    UserError: a statistic is unknown.
  """
  chex.assert_rank([hidden, targets], [3, 2])
  chex.assert_equal_shape_prefix([hidden, targets], 2)
  if mask is not None:
    chex.assert_equal_shape([mask, targets])
  for name in want:
    if name not in STATISTICS:
      raise UserError(
        f"there is no statistic {name!r}.",
        where="want",
        remedy=f"Choose among {', '.join(STATISTICS)}.",
      )
  cool = _inverse(temperature, targets.shape)
  want = tuple(sorted(set(want)))
  if head.dense is not None:
    of_chunk = lambda h, t, c: _dense_statistics(head, h, t, c, want)
    statistics = by_chunks(head, of_chunk, hidden, targets, cool)
    if mask is not None:
      statistics = jax.tree.map(lambda x: jnp.where(mask, x, 0), statistics)
  else:
    static = Static(
      tiles.form_of(head),
      tiles.tiling_of(targets.shape, tile, head),
      want,
      head.weight.shape[0],  # type: ignore[union-attr]
    )
    statistics = stream(static, hidden, head.weight, targets, cool, mask)
  if "lse" not in want:
    del statistics["lse"]
  if "top" in want:
    statistics["top_logp"] = jax.lax.stop_gradient(statistics["top_logp"])
  return TokenStatistics(**statistics)


def sequence_logprobs(
  model: Model, params: Params, sequences: Sequences
) -> Array:
  """Sums the log-probs of each sequence's scored tokens.

  Args:
    model: the model's functions.
    params: the model's parameters: the policy's or the reference's.
    sequences: B right-padded rows.

  Returns:
    [B] float32, nats; 0 for a row without scored tokens.
  """
  hidden = model.forward(params, sequences.tokens)[:, :-1]
  logps = token_logprobs(
    hidden,
    model.head(params),
    sequences.tokens[:, 1:],
    mask=sequences.mask[:, 1:],
  )
  return jnp.sum(logps, -1)


def _inverse(temperature, shape):
  """[B, T] inverse temperatures; None where the temperature is the number 1."""
  if isinstance(temperature, (int, float)) and temperature == 1:
    return None
  cool = jax.lax.stop_gradient(1.0 / jnp.asarray(temperature, jnp.float32))
  if cool.ndim:
    chex.assert_shape(cool, shape[:1])
  return jnp.broadcast_to(cool.reshape(-1, 1), shape)


def _dense_statistics(head, hidden, targets, cool, want):
  z = logits(head, hidden)
  z = z if cool is None else z * cool[..., None]
  lse = jax.nn.logsumexp(z, -1)
  picked = jnp.take_along_axis(z, targets[..., None], -1)[..., 0]
  statistics = {"logps": picked - lse, "lse": lse}
  if "entropy" in want:
    p = jnp.exp(z - lse[..., None])
    # A logit may be -inf here: 0 log 0 = 0.
    statistics["entropy"] = lse - jnp.sum(p * jnp.where(p > 0, z, 0.0), -1)
  if "mean_logit" in want:
    statistics["mean_logit"] = jnp.mean(z, -1)
  if "top" in want:
    statistics["top_logp"] = jnp.max(z, -1) - lse
    statistics["top_token"] = jnp.argmax(z, -1).astype(jnp.int32)
  return statistics
