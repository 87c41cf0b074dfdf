"""Mixtures of two policies, which are policies too."""

import functools
from typing import Any

import chex
import jax.numpy as jnp
from flax import struct

from jalign.types import Array, Params, Policy


class MixtureParams(struct.PyTreeNode):
  """Parameters of a mixture.

  Attributes:
    policy: params of the first model.
    reference: params of the second model.
    mix_ref: weight of the reference in [0, 1]: [], or [B] for a weight per
      row. The weight is traced, so that changing its value never recompiles.
  """

  policy: Params
  reference: Params
  mix_ref: Array | float


@functools.lru_cache  # the same pair gives the same functions: one jit cache
def geometric(policy: Any, reference: Any) -> Policy:
  """Token-level geometric mixture, which Nash-MD and IPO-MD sample from.

  pi_mix(y_t | x, y_<t) is proportional to
  policy(y_t | ...)^(1 - mix_ref) * reference(y_t | ...)^mix_ref.

  Both models read the same prefix in one loop, each with its own cache; they
  may differ in size but share one vocabulary. The product of the token-level
  mixtures is not the sequence-level mixture, because each prefix has a
  normaliser of its own. Both mixtures are in use; the token-level mixture is
  the one that can be sampled.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886,
  section 7; Calandriello et al. 2024, arXiv:2403.08635, section 5.

  Args:
    policy: a `Policy` (or `Model`).
    reference: another `Policy` (or `Model`) of the same vocabulary.

  Returns:
    A `Policy` whose params are `MixtureParams`.
  """

  def init_cache(params: MixtureParams, batch: int, size: int):
    return (
      policy.init_cache(params.policy, batch, size),
      reference.init_cache(params.reference, batch, size),
    )

  def extend(params: MixtureParams, tokens: Array, lengths: Array, cache):
    a, cache_a = policy.extend(params.policy, tokens, lengths, cache[0])
    b, cache_b = reference.extend(params.reference, tokens, lengths, cache[1])
    chex.assert_equal_shape([a, b])
    return (a, b), (cache_a, cache_b)

  def combine(params: MixtureParams, parts: tuple[Array, ...], rows: Array):
    a, b = parts
    weight = jnp.asarray(params.mix_ref, a.dtype)
    if weight.ndim:
      weight = weight[rows, None]
    # Mixing unnormalised logits gives the same distribution as mixing
    # log-probs.
    return (1.0 - weight) * a + weight * b

  def prepare(params: MixtureParams, rows: int, home=None) -> MixtureParams:
    return params.replace(
      policy=policy.prepare(params.policy, rows, home),
      reference=reference.prepare(params.reference, rows, home),
    )

  return Policy(init_cache, extend, prepare, combine, policy.layout)
