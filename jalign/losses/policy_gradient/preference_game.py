"""Policy gradients of preference games, regularised towards a reference."""

import jax

from jalign.losses import kl
from jalign.losses._arrays import check_range, floats_with_axes, where_scored
from jalign.losses.advantages import reward_to_go, token_rewards
from jalign.losses.policy_gradient.score_function import reinforce
from jalign.types import Array


def nash_md(
  token_logps: Array,
  ref_token_logps: Array,
  preference: Array,
  mask: Array,
  *,
  tau: float = 0.008,
) -> Array:
  """Nash-MD-PG: the policy gradient of a KL-regularised preference game.

  l = -sum_t A_t log pi(y_t), A_t = P(y > y') - 1/2 - tau sum_{s >= t} k_s,
  k_s = log(pi(y_s) / ref(y_s))

  A is a constant. The response y is the policy's own sample at temperature 1.
  The algorithm depends on which model draws the opponent's response y': the
  token-level geometric mixture with the reference (Nash-MD), the policy
  (self-play) or the reference (best response). A token is charged for its own
  and all later log-ratios, as the gradient of the KL requires; for the form
  without the later log-ratios see `nash_md_token_kl`. Subtracting 1/2 only
  lowers the variance. The loss's value has no meaning.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886,
  section 7; the default of tau is that of its summarisation runs. tau is
  relative to win rates, so that it isn't comparable with beta, which is
  relative to a reward.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    ref_token_logps: [B, T] token_logps under the reference; a constant.
    preference: [B] P(y > y'), or the outcome of one comparison, in [0, 1].
    mask: [B, T] bool, True on scored tokens.
    tau: strength of the KL, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: tau is negative.
  """
  check_range("tau", tau, 0, ends="[)")
  token_logps, ref_token_logps, preference, mask = floats_with_axes(
    "BT BT B BT", token_logps, ref_token_logps, preference, mask
  )
  rewards = token_rewards(
    token_logps, ref_token_logps, preference - 0.5, mask, beta=tau
  )
  return reinforce(token_logps, reward_to_go(rewards, mask), mask)


def nash_md_token_kl(
  token_logps: Array,
  ref_token_logps: Array,
  preference: Array,
  mask: Array,
  *,
  tau: float = 0.1,
) -> Array:
  """Nash-MD-PG as TRL has it: each token pays for its own log-ratio only.

  l = -sum_t A_t log pi(y_t), A_t = P(y > y') - 1/2 - tau k_t,
  k_s = log(pi(y_s) / ref(y_s))

  A is a constant. This isn't the gradient of the game: a token isn't charged
  for the later log-ratios that it leads to, so that the policy converges to
  another point than with `nash_md`. The loss is here for comparisons with runs
  of TRL, and the default of tau is TRL's.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886, in
  the form of TRL's Nash-MD trainer.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    ref_token_logps: [B, T] token_logps under the reference; a constant.
    preference: [B] P(y > y'), or the outcome of one comparison, in [0, 1].
    mask: [B, T] bool, True on scored tokens.
    tau: strength of the penalty, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: tau is negative.
  """
  check_range("tau", tau, 0, ends="[)")
  token_logps, ref_token_logps, preference, mask = floats_with_axes(
    "BT BT B BT", token_logps, ref_token_logps, preference, mask
  )
  k = kl.k1(*where_scored(mask, token_logps, ref_token_logps))
  advantages = preference[:, None] - 0.5 - tau * k
  return reinforce(token_logps, jax.lax.stop_gradient(advantages), mask)
