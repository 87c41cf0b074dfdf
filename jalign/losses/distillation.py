"""Distillation losses: KL to a teacher's distribution at every token."""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  as_floats,
  check_range,
  per_token,
  where_scored,
)
from jalign.types import Array

# Keeps the extrapolation positive where the two models agree, as in the paper.
_LEAST_WEIGHT = 1e-3
TOP_CLASSES = 64  # a teacher's likeliest classes that a batch gives


def _kl(logits: Array, teacher_logits: Array) -> Array:
  """KL(student || teacher) [...] of distributions [..., V]."""
  logps = jax.nn.log_softmax(logits)
  gap = logps - jax.nn.log_softmax(teacher_logits)
  return jnp.sum(jnp.exp(logps) * gap, -1)


def _scored(mask: Array, *logits: Array) -> tuple[Array, ...]:
  """Casts logits [..., V] to one float type; 0 where a token isn't scored."""
  logits = as_floats(*logits)
  chex.assert_equal_shape(logits)
  chex.assert_shape(mask, logits[0].shape[:-1])
  return tuple(jnp.where(mask[..., None], z, 0.0) for z in logits)


def aligned_tokens(
  student: Array,
  dpo: Array,
  reverse: Array,
  mask: Array,
  *,
  beta: float,
  extrapolation: float,
) -> Array:
  """Each token's term of `align_distil`: beta / w times the KL.

  Args:
    student: [..., V] logits of the student.
    dpo: [..., V] logits of the model trained by DPO; a constant.
    reverse: [..., V] logits of the model trained by DPO on swapped pairs; a
      constant.
    mask: [...] bool, True on the scored tokens.
    beta: weight of the reward, > 0.
    extrapolation: factor of the teacher's extrapolation, >= 0.

  Returns:
    [...] floats, 0 where a token isn't scored.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("extrapolation", extrapolation, 0, ends="[)")
  student, dpo, reverse = _scored(mask, student, dpo, reverse)
  dpo, reverse = jax.lax.stop_gradient((dpo, reverse))
  apart = jnp.abs(jax.nn.softmax(dpo) - jax.nn.softmax(reverse))
  w = extrapolation * jnp.sum(apart, -1) + _LEAST_WEIGHT
  teacher = dpo + w[..., None] * (dpo - reverse)
  return jnp.where(mask, beta / w * _kl(student, teacher), 0.0)


def per_scored_token(token_losses: Array, mask: Array) -> Array:
  """[B] means of [B, T] terms over scored tokens; 0 if no token is scored.

  Args:
    token_losses: [B, T] terms, 0 where a token isn't scored.
    mask: [B, T] bool, True on scored tokens.
  """
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
  """AlignDistil: distils the difference of two DPO models, token by token.

  l = mean over t of beta / w_t KL(softmax z_t || softmax z*_t),
  z* = z_dpo + w (z_dpo - z_rev),
  w = extrapolation sum_v |softmax(z_dpo) - softmax(z_rev)|_v + 1e-3

  The sum in w is the L1 distance of two distributions, without a factor 1/2, so
  that it is at most 2. Where the two models agree, the teacher is the DPO model
  and the token's weight is beta / 1e-3. The mean is over the response's scored
  tokens; a response without scored tokens has loss 0. The three logits are
  float32 [B, T, V]; `jalign.training.align_distil_streamed` computes the same
  loss without ever holding them. Gradients do not flow into the teachers.

  Zhang et al. 2025, "AlignDistil: Token-Level Language Model Alignment as
  Adaptive Policy Distillation", arXiv:2503.02832.

  Args:
    student_logits: [B, T, V] logits of the student that predict each token.
    dpo_logits: [B, T, V] logits of a model trained by DPO; a constant.
    reverse_dpo_logits: [B, T, V] logits of a model trained by DPO on swapped
      pairs, or of the reference; a constant.
    mask: [B, T] bool, True on scored tokens.
    beta: weight of the reward, > 0.
    extrapolation: factor of the teacher's extrapolation, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  chex.assert_rank(student_logits, 3)
  token_losses = aligned_tokens(
    student_logits,
    dpo_logits,
    reverse_dpo_logits,
    mask,
    beta=beta,
    extrapolation=extrapolation,
  )
  return per_scored_token(token_losses, mask)


def token_distillation(
  student_logits: Array,
  dpo_logits: Array,
  ref_logits: Array,
  mask: Array,
  *,
  beta: float = 0.1,
  dpo_beta: float = 0.1,
) -> Array:
  """Distillation that equals RLHF with a DPO model's token rewards.

  l = beta sum over t of KL(softmax z_t || softmax z*_t),
  z* = w z_dpo + (1 - w) z_ref,  w = dpo_beta / beta

  RLHF's objective at a token is the student's mean of the reward
  dpo_beta log(pi_dpo / pi_ref), less beta KL(student || ref). Here
  beta KL(student || teacher) is the gap between the best possible value of that
  objective and the student's. The equality holds for a fixed distribution of
  prefixes: the student that is best at every token need not be the best on
  whole responses. With the defaults, which are our choice, the teacher is the
  DPO model. A batch's sum is divided by scored tokens. Gradients do not flow
  into the teachers.

  Zhang et al. 2025, "AlignDistil: Token-Level Language Model Alignment as
  Adaptive Policy Distillation", arXiv:2503.02832, theorem 1.

  Args:
    student_logits: [B, T, V] logits of the student that predict each token.
    dpo_logits: [B, T, V] logits of a model trained by DPO; a constant.
    ref_logits: [B, T, V] logits of the reference; a constant.
    mask: [B, T] bool, True on scored tokens.
    beta: strength of the student's KL regularisation, > 0.
    dpo_beta: strength of the KL regularisation of the DPO model, > 0.

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


def context_distillation(context_kl: Array, mask: Array) -> Array:
  """Context distillation: a model without a context imitates one with it.

  l = sum over t of KL(ref(. | C, x, y_<t) || pi(. | x, y_<t))

  The teacher is the reference, which reads the context C before the prompt; the
  student doesn't. At the minimum the student at every prefix of a response is
  the prompted teacher, whatever the distribution of the responses that cover
  these prefixes. A batch's sum is divided by scored tokens. Batches of kind
  "distributions" compute the KL a tile of the vocabulary at a time, so that
  this loss never sees logits.

  Askell et al. 2021, "A General Language Assistant as a Laboratory for
  Alignment", arXiv:2112.00861, cited from memory.

  Args:
    context_kl: [B, T] KL of each token's distributions, teacher to student.
    mask: [B, T] bool, True on scored tokens.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  (kl,) = where_scored(mask, *as_floats(context_kl))
  chex.assert_equal_shape([kl, mask])
  return jnp.sum(kl, -1)


def top_k_distillation(
  top_logps: Array, ref_top_logps: Array, mask: Array, *, k: int = 50
) -> Array:
  """Context distillation on the teacher's k likeliest classes and a tail.

  l = sum over t, i of ref_i log(ref_i / pi_i), with i among k classes and the
  class of all others

  Joining classes never raises a KL divergence. So this is a lower bound of
  `context_distillation`, which rises with k, and which equals it where k is the
  vocabulary. Renormalising the k classes instead bounds nothing, and ignores
  the mass outside of them. A batch's sum is divided by scored tokens. Gradients
  do not flow into the teacher.

  Askell et al. 2021, "A General Language Assistant as a Laboratory for
  Alignment", arXiv:2112.00861, cited from memory. The default k is our choice.

  Args:
    top_logps: [B, T, C] the student's log-probs of the teacher's likeliest
      classes, the likeliest first; the last class stands for all others.
    ref_top_logps: [B, T, C] the teacher's log-probs of the same classes; a
      constant.
    mask: [B, T] bool, True on scored tokens.
    k: number of classes apart, from 1 to 64; others join the last class. A
      smaller vocabulary has all of its classes apart.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("k", k, 0, TOP_CLASSES, ends="(]")
  logps, teacher = _scored(mask, top_logps, ref_top_logps)
  teacher = jax.lax.stop_gradient(teacher)
  classes = jnp.arange(logps.shape[-1])
  apart = classes < jnp.minimum(k, logps.shape[-1] - 1)
  rest = lambda x: jax.nn.logsumexp(jnp.where(apart, -jnp.inf, x), -1)
  term = lambda p, q: jnp.exp(p) * (p - q)
  kl = jnp.sum(jnp.where(apart, term(teacher, logps), 0.0), -1)
  kl += term(rest(teacher), rest(logps))
  return jnp.sum(jnp.where(mask, kl, 0.0), -1)
