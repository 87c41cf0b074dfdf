"""Losses of preference games on single responses, with a pull to a reference.

Most are policy gradients; `sppo_win_rate` is a regression.
"""

import jax
import jax.numpy as jnp

from jalign.losses import kl
from jalign.losses._arrays import (
  check_range,
  floats_with_axes,
  same_floats,
  where_scored,
)
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


def nash_prox(
  token_logps: Array,
  ref_token_logps: Array,
  anchor_token_logps: Array,
  preference: Array,
  mask: Array,
  *,
  tau: float = 0.1,
  step: float = 1.0,
) -> Array:
  """The policy gradient of a proximal step in a regularised preference game.

  l = -sum_t A_t log pi(y_t), A_t = P(y > y') - 1/2 - sum_{s >= t} c_s,
  c_s = tau log(pi(y_s) / ref(y_s)) + log(pi(y_s) / anchor(y_s)) / step

  A is a constant. Against an opponent that stays the same, the gradient
  vanishes at the proximal step from the anchor,
  pi ~ (anchor ref^(step tau) exp(step P(. > opponent)))^(1 / (1 + step tau)).
  Nash Mirror Prox takes two such steps in turn. The paper's rate allows steps
  up to 2, whatever the number of responses. The loss's value has no meaning.

  Tiapkin et al. 2025, "Accelerating Nash Learning from Human Feedback via
  Mirror Prox", arXiv:2505.19731, version 1. That the KL to the anchor is part
  of the advantage is our parametrisation, and so are the defaults.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    ref_token_logps: [B, T] token_logps under the reference; a constant.
    anchor_token_logps: [B, T] token_logps under the anchor; a constant.
    preference: [B] P(y > y'), or the outcome of one comparison, in [0, 1].
    mask: [B, T] bool, True on scored tokens.
    tau: strength of the KL to the reference, >= 0, relative to win rates.
    step: size of the step, > 0; a large step hardly holds to the anchor.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("tau", tau, 0, ends="[)")
  check_range("step", step, 0)
  token_logps, ref_logps, anchor_logps, preference, mask = floats_with_axes(
    "BT BT BT B BT",
    token_logps,
    ref_token_logps,
    anchor_token_logps,
    preference,
    mask,
  )
  to_reference = token_rewards(
    token_logps, ref_logps, preference - 0.5, mask, beta=tau
  )
  own, anchor = where_scored(mask, token_logps, anchor_logps)
  rewards = to_reference - kl.k1(own, anchor) / step
  return reinforce(token_logps, reward_to_go(rewards, mask), mask)


def sppo_win_rate(
  logps: Array, ref_logps: Array, preference: Array, *, eta: float = 1e3
) -> Array:
  """Self-play preference optimisation, a response at a time.

  l = (log(pi(y) / ref(y)) - eta (p - 1/2))^2,  p = P(y > ref)

  The reference is the iterate that has drawn the response, and p the response's
  win rate over that iterate. Over all responses the minimiser is a step of
  multiplicative weights, pi ~ ref exp(eta P(. > ref)), up to a factor for each
  prompt: 1/2 stands for the step's log-normaliser over eta, which it equals to
  first order in eta. Gradients do not flow into the preference.

  Wu et al. 2024, "Self-Play Preference Optimization for Language Model
  Alignment", arXiv:2405.00675. The default is that of the authors' code, with
  which the target is never reached. For hard labels on pairs see `sppo`.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the iterate; a constant.
    preference: [B] estimates of P(y > iterate), in [0, 1]; a constant.
    eta: step size, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: eta is not positive.
  """
  check_range("eta", eta, 0)
  logps, ref_logps, preference = same_floats(logps, ref_logps, preference)
  target = jax.lax.stop_gradient(ref_logps + eta * (preference - 0.5))
  return jnp.square(logps - target)
