"""Losses from a teacher's distribution at every token."""

import chex
import jax
import jax.numpy as jnp

from jalign import logprobs
from jalign.losses._arrays import as_floats, check_range, per_token
from jalign.types import Array, Head

# Keeps the extrapolation positive where the two models agree; the paper's.
_LEAST_WEIGHT = 1e-3


def _kl(logits: Array, teacher_logits: Array) -> Array:
  """KL(student || teacher) [...] of distributions [..., V]."""
  logps = jax.nn.log_softmax(logits)
  gap = logps - jax.nn.log_softmax(teacher_logits)
  return jnp.sum(jnp.exp(logps) * gap, -1)


def _scored(mask: Array, *logits: Array) -> tuple[Array, ...]:
  """Logits [..., V] in one float type, 0 where a token isn't scored."""
  logits = as_floats(*logits)
  chex.assert_equal_shape(logits)
  chex.assert_shape(mask, logits[0].shape[:-1])
  return tuple(jnp.where(mask[..., None], z, 0.0) for z in logits)


def _aligned_tokens(student, dpo, reverse, mask, beta, extrapolation):
  """beta / w KL at each token [...] from logits [..., V]; 0 if not scored."""
  student, dpo, reverse = _scored(mask, student, dpo, reverse)
  dpo, reverse = jax.lax.stop_gradient((dpo, reverse))
  apart = jnp.abs(jax.nn.softmax(dpo) - jax.nn.softmax(reverse))
  w = extrapolation * jnp.sum(apart, -1) + _LEAST_WEIGHT
  teacher = dpo + w[..., None] * (dpo - reverse)
  return jnp.where(mask, beta / w * _kl(student, teacher), 0.0)


def _per_scored_token(token_losses: Array, mask: Array) -> Array:
  lengths = jnp.sum(mask, -1, dtype=token_losses.dtype)
  return per_token(jnp.sum(token_losses, -1), lengths)


def align_distil(
  student_logits: Array,
  dpo_logits: Array,
  reverse_dpo_logits: Array,
  mask: Array,
  *,
  beta: float = 0.1,
  extrapolation: float = 15.0,
) -> Array:
  """AlignDistil: distils the contrast of two DPO models, token by token.

  l = mean over t of beta / w_t KL(softmax z_t || softmax z*_t),
  z* = z_dpo + w (z_dpo - z_rev),
  w = extrapolation sum_v |softmax(z_dpo) - softmax(z_rev)|_v + 1e-3

  The KL is from the student to the teacher. The distance has no 1/2, so that
  it is at most 2. Where the two models agree the teacher is the DPO model, and
  the weight of the token beta / 1e-3. The mean is over the response's scored
  tokens; a response without any has loss 0. The three logits are float32
  [B, T, V]: `align_distil_streamed` is the same without them. Gradients do not
  flow into the teachers.

  Zhang et al. 2025, "AlignDistil: Token-Level Language Model Alignment as
  Adaptive Policy Distillation", arXiv:2503.02832.

  Args:
    student_logits: [B, T, V] logits of the student that predict each token.
    dpo_logits: [B, T, V] of a model trained by DPO; a constant.
    reverse_dpo_logits: [B, T, V] of one trained on swapped pairs, or of the
      reference; a constant.
    mask: [B, T] bool, True on the scored tokens.
    beta: weight of the reward, > 0.
    extrapolation: of the teacher, per distance, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("extrapolation", extrapolation, 0, ends="[)")
  chex.assert_rank(student_logits, 3)
  token_losses = _aligned_tokens(
    student_logits, dpo_logits, reverse_dpo_logits, mask, beta, extrapolation
  )
  return _per_scored_token(token_losses, mask)


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
  """`align_distil` from hidden states: [B, chunk, V] logits at a time.

  Forward and backward compute each chunk's logits anew. Differentiable in the
  student's hidden states and its head's weight.

  Args:
    student: [B, T, D] hidden states that predict each token, and the head.
    dpo: the same for a model trained by DPO, of any width; constants.
    reverse_dpo: the same for one trained on swapped pairs; constants.
    mask: [B, T] bool, True on the scored tokens.
    beta: weight of the reward, > 0.
    extrapolation: of the teacher, per distance, >= 0.
    chunk: tokens of each row; by default what makes logits of 32 MiB.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("extrapolation", extrapolation, 0, ends="[)")
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
    return _aligned_tokens(own, up, down, scored, beta, extrapolation)

  columns = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (hidden, mask))
  token_losses = jax.lax.map(position, columns, batch_size=chunk)
  return _per_scored_token(token_losses.T, mask)


def token_distillation(
  student_logits: Array,
  dpo_logits: Array,
  ref_logits: Array,
  mask: Array,
  *,
  beta: float = 0.1,
  dpo_beta: float = 0.1,
) -> Array:
  """RLHF on DPO's token rewards, as the distillation that it equals.

  l = beta sum over t of KL(softmax z_t || softmax z*_t),
  z* = w z_dpo + (1 - w) z_ref,  w = dpo_beta / beta

  At each token, beta KL(student || teacher) is what the student lacks of the
  largest value of dpo_beta log(pi_dpo / pi_ref), less beta KL(student || ref).
  So it is for a fixed distribution of prefixes: the student that is best at
  every token need not be the best on whole responses. With the defaults, our
  choice, the teacher is the DPO model. Its CATALOGUE row divides by tokens.
  Gradients do not flow into the teachers.

  Zhang et al. 2025, "AlignDistil: Token-Level Language Model Alignment as
  Adaptive Policy Distillation", arXiv:2503.02832, theorem 1.

  Args:
    student_logits: [B, T, V] logits of the student that predict each token.
    dpo_logits: [B, T, V] of a model trained by DPO; a constant.
    ref_logits: [B, T, V] of the reference; a constant.
    mask: [B, T] bool, True on the scored tokens.
    beta: strength of the student's KL regularisation, > 0.
    dpo_beta: that of the DPO model, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("dpo_beta", dpo_beta, 0)
  chex.assert_rank(student_logits, 3)
  student, dpo, ref = _scored(mask, student_logits, dpo_logits, ref_logits)
  dpo, ref = jax.lax.stop_gradient((dpo, ref))
  teacher = ref + dpo_beta / beta * (dpo - ref)
  return jnp.sum(jnp.where(mask, beta * _kl(student, teacher), 0.0), -1)
