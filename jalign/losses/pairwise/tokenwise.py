"""DPO with token-level information: shared lengths, or likelihood of a draw."""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  as_floats,
  check_range,
  log_ratios,
  per_token,
  same_floats,
)
from jalign.losses.pairwise.sigmoid import dpo
from jalign.types import Array

# Bound on exponents, greater than a model can give: the mean over tokens of
# log pi(token) - log sum_v pi(v)^2 is at most log((sqrt(V) + 1) / 2) for V
# tokens. Larger exponents aren't from a model, and could overflow.
_MOST = 50.0


def shared_logps(token_logps: Array, mask: Array) -> Array:
  """Sums log-probs of a pair's responses up to the shorter response's length.

  Rows are interleaved: row 2i is chosen and row 2i + 1 rejected. Tokens are
  counted from the first scored token of each response, so that responses may
  start at different columns.

  Args:
    token_logps: [2P, T] log-prob of each token; anything where `mask` is False.
    mask: [2P, T] bool, True on the scored tokens.

  Returns:
    [2P] sums over the first min(|y_w|, |y_l|) scored tokens of each row.

  Raises:
    AssertionError: shapes differ, or the number of rows is odd.
  """
  (token_logps,) = as_floats(token_logps)
  mask = jnp.asarray(mask).astype(bool)
  chex.assert_rank(mask, 2)
  chex.assert_equal_shape([token_logps, mask])
  chex.assert_is_divisible(mask.shape[0], 2)
  count = jnp.cumsum(mask, -1)
  shorter = jnp.min(count[:, -1].reshape(-1, 2), -1)
  shared = mask & (count <= jnp.repeat(shorter, 2)[:, None])
  return jnp.sum(jnp.where(shared, token_logps, 0.0), -1)


def ld_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_shared_logps: Array,
  rejected_shared_logps: Array,
  ref_chosen_shared_logps: Array,
  ref_rejected_shared_logps: Array,
  *,
  beta: float = 0.1,
  alpha: float = 0.5,
) -> Array:
  """DPO that discounts the tokens beyond the shorter response's length.

  l = -log sigmoid(beta (g_w - g_l)),  g = a(pi) - a(ref),
  a(p) = log p(y_1..m) + alpha log p(y_m+1.. | y_1..m),  m = min(|y_w|, |y_l|)

  alpha = 1 gives DPO; at 0 only the first m tokens count. The reference's
  log-probs are discounted as the policy's are; one library's early version
  didn't discount them. Tokens are counted from the start of the response. The
  paper chooses alpha for each model.

  Liu et al. 2024, "Length Desensitization in Direct Preference Optimization",
  arXiv:2409.06411.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_shared_logps: [B] sums over the first m tokens, under the policy;
      see `shared_logps`.
    rejected_shared_logps: [B] the same for the dispreferred responses.
    ref_chosen_shared_logps: [B] chosen_shared_logps under the reference; a
      constant.
    ref_rejected_shared_logps: [B] rejected_shared_logps under the reference; a
      constant.
    beta: strength of the KL regularisation, > 0.
    alpha: weight of the tokens beyond m, in [0, 1]; the default is ours.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, 1, ends="[]")
  arrays = same_floats(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_shared_logps,
    rejected_shared_logps,
    ref_chosen_shared_logps,
    ref_rejected_shared_logps,
  )
  whole = jnp.subtract(*log_ratios(*arrays[:4]))
  shared = jnp.subtract(*log_ratios(*arrays[4:]))
  return jax.nn.softplus(-beta * (shared + alpha * (whole - shared)))


def wpo_weights(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_collision_logps: Array,
  rejected_collision_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
) -> Array:
  """WPO's weights: how much a pair looks like the policy's own draws.

  The weight is exp of the sum, over both responses, of the mean over tokens of
  log pi(token) - log sum_v pi(v)^2. The second part is the log of the
  probability that the policy expects of its own draws: a weight of 1 says that
  the pair looks as if the policy had drawn it, and weights may be above 1. As
  in the paper's formula and in TRL of 2026, the weight isn't clamped (except at
  exp(50), which no model reaches, so that it stays finite). The authors' code
  and older TRL clamp the same product at 1: min(wpo_weights, 1). open-instruct
  clamps at 1 too, and leaves the second part out.

  Zhou et al. 2024, "WPO: Enhancing RLHF with Weighted Preference
  Optimization", arXiv:2406.11827.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_collision_logps: [B] sums over the chosen responses of
      log sum_v pi(v)^2 at each scored token.
    rejected_collision_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.

  Returns:
    [B] float32 weights, constants.

  Raises:
    AssertionError: shapes differ.
  """
  arrays = same_floats(
    chosen_logps,
    rejected_logps,
    chosen_collision_logps,
    rejected_collision_logps,
    chosen_lengths,
    rejected_lengths,
  )
  chosen, rejected, *collisions, chosen_lengths, rejected_lengths = arrays
  exponent = per_token(chosen - collisions[0], chosen_lengths)
  exponent += per_token(rejected - collisions[1], rejected_lengths)
  return jax.lax.stop_gradient(jnp.exp(jnp.minimum(exponent, _MOST)))


def wpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_collision_logps: Array,
  rejected_collision_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """DPO weighted by how much a pair looks like the policy's own draws.

  l = -u log sigmoid(beta h),  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),
  log u = sum over y_w, y_l of (1 / |y|) sum_t (log pi(y_t) - log sum_v pi(v)^2)

  u is a constant and isn't clamped, whereas the authors' code has min(u, 1):
  see `wpo_weights`. The weights make off-policy pairs count as if they were
  drawn from the policy. A batch's sum is divided by examples, not by the sum of
  u.

  Zhou et al. 2024, "WPO: Enhancing RLHF with Weighted Preference
  Optimization", arXiv:2406.11827.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_collision_logps: [B] sums over the chosen responses of
      log sum_v pi(v)^2 at each scored token; a constant.
    rejected_collision_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  plain = dpo(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    beta=beta,
  )
  weights = wpo_weights(
    chosen_logps,
    rejected_logps,
    chosen_collision_logps,
    rejected_collision_logps,
    chosen_lengths,
    rejected_lengths,
  )
  return jnp.multiply(*same_floats(weights, plain))
