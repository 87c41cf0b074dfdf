"""Distils from hidden states, where whole logits would be [B, T, V]."""

import chex
import jax
import jax.numpy as jnp

from jalign import logprobs
from jalign.losses.distillation import aligned_tokens, per_scored_token
from jalign.types import Array, Head


def align_distil_streamed(
  student: tuple[Array, Head],
  dpo: tuple[Array, Head],
  reverse_dpo: tuple[Array, Head],
  mask: Array,
  *,
  beta: float = 0.1,
  extrapolation: float = 15.0,
  chunk: int | None = None,
) -> Array:
  """`losses.align_distil` from hidden states; holds [B, chunk, V] logits.

  The forward and the backward pass both compute each chunk's logits. The loss
  is differentiable in the student's hidden states and its head's weight.

  Args:
    student: [B, T, D] hidden states that predict each token, and the head.
    dpo: states and head of a model trained by DPO, of any width; constants.
    reverse_dpo: states and head of a model trained on swapped pairs; constants.
    mask: [B, T] bool, True on the scored tokens.
    beta: weight of the reward, > 0.
    extrapolation: extrapolation of the teacher per distance, >= 0.
    chunk: tokens of each row whose logits are made at once; by default as many
      as take 32 MiB.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  models = (student, dpo, reverse_dpo)
  hidden, heads = [m[0] for m in models], [m[1] for m in models]
  chex.assert_rank(hidden, 3)
  chex.assert_equal_shape_prefix([*hidden, mask], 2)
  if chunk is None:
    rows = jax.eval_shape(
      lambda h: logprobs.logits(heads[0], h), hidden[0][:, 0]
    )
    chunk = max(1, logprobs.TILE_BYTES // (4 * rows.size))

  @jax.checkpoint
  def position(column):
    states, scored = column
    own, up, down = map(logprobs.logits, heads, states)
    return aligned_tokens(
      own, up, down, scored, beta=beta, extrapolation=extrapolation
    )

  columns = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (hidden, mask))
  token_losses = jax.lax.map(position, columns, batch_size=chunk)
  return per_scored_token(token_losses.T, mask)
