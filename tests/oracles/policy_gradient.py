"""float64 twins of jalign.losses.policy_gradient, a sample at a time."""

import math

import numpy as np

from tests.oracles.listwise.one_list import each_list


def _surrogate(ratio, advantage, clip):
  """PPO's objective by cases: flat where leaving the range would gain."""
  if advantage > 0:
    return advantage * min(ratio, 1 + clip)
  return advantage * max(ratio, 1 - clip)


def reinforce(token_logps, advantages, mask):
  losses = np.zeros(len(mask))
  for b, t in np.argwhere(mask):
    losses[b] -= advantages[b, t] * token_logps[b, t]
  return losses


def remax(logps, rewards, greedy_rewards):
  return np.array(
    [-(r - g) * logp for logp, r, g in zip(logps, rewards, greedy_rewards)]
  )


def ppo_clip(token_logps, old_token_logps, advantages, mask, *, clip=0.2):
  losses = np.zeros(len(mask))
  for b, t in np.argwhere(mask):
    ratio = math.exp(token_logps[b, t]) / math.exp(old_token_logps[b, t])
    losses[b] -= _surrogate(ratio, advantages[b, t], clip)
  return losses


def value_clip(token_values, old_token_values, returns, mask, *, clip=0.2):
  losses = np.zeros(len(mask))
  for b, t in np.argwhere(mask):
    new, old = token_values[b, t], old_token_values[b, t]
    near = min(max(new, old - clip), old + clip)
    target = returns[b, t]
    losses[b] += 0.5 * max((new - target) ** 2, (near - target) ** 2)
  return losses


def grpo(
  token_logps,
  old_token_logps,
  ref_token_logps,
  rewards,
  mask,
  valid,
  *,
  clip=0.2,
  beta=0.04,
  eps=1e-6,
):
  losses = []
  for b, real in enumerate(valid):
    responses = np.flatnonzero(real)
    group = rewards[b][responses]
    deviation = np.std(group, ddof=1) if len(group) > 1 else 0.0
    total = 0.0
    for k in responses:
      tokens = np.flatnonzero(mask[b, k])
      advantage = (rewards[b, k] - group.mean()) / (deviation + eps)
      for t in tokens:
        pi = math.exp(token_logps[b, k, t])
        ratio = pi / math.exp(old_token_logps[b, k, t])
        q = math.exp(ref_token_logps[b, k, t]) / pi
        penalty = beta * (q - 1 - math.log(q))
        total += (penalty - _surrogate(ratio, advantage, clip)) / len(tokens)
    losses.append(total / max(len(responses), 1))
  return np.array(losses)


def dr_grpo(
  token_logps, old_token_logps, rewards, mask, valid, *, clip=0.2, length=1.0
):
  losses = []
  for b, real in enumerate(valid):
    responses = np.flatnonzero(real)
    total = 0.0
    for k in responses:
      advantage = rewards[b, k] - rewards[b][responses].mean()
      for t in np.flatnonzero(mask[b, k]):
        ratio = math.exp(token_logps[b, k, t] - old_token_logps[b, k, t])
        total -= _surrogate(ratio, advantage, clip) / length
    losses.append(total / max(len(responses), 1))
  return np.array(losses)


def p3o(pi_1, pi_2, old_1, old_2, scores_1, scores_2, *, clip=0.2):
  losses = []
  for a, b, old_a, old_b, s, z in zip(
    pi_1, pi_2, old_1, old_2, scores_1, scores_2
  ):
    first = _surrogate(math.exp(a - old_a), (s - z) / 2, clip)
    second = _surrogate(math.exp(b - old_b), (z - s) / 2, clip)
    losses.append(-first - second)
  return np.array(losses)


def _pair_weight(pi_1, pi_2, old_1, old_2, clip):
  ratio = np.exp(pi_1 - old_1) * np.exp(pi_2 - old_2)
  return np.minimum(np.maximum(ratio, 1 - clip), 1 + clip)


def p3o_joint(pi_1, pi_2, old_1, old_2, scores_1, scores_2, *, clip=0.2):
  weight = _pair_weight(pi_1, pi_2, old_1, old_2, clip)
  return -weight * (scores_1 - scores_2) * (pi_1 - pi_2) / 2


def p3o_joint_gradient(
  pi_1, pi_2, old_1, old_2, scores_1, scores_2, *, clip=0.2
):
  weight = _pair_weight(pi_1, pi_2, old_1, old_2, clip)
  return weight * (scores_2 - scores_1) / 2


# f' of each divergence D = E_p f(t), at t = pi / p.
_SLOPES = {
  "reverse_kl": lambda t: np.log(t) + 1,
  "forward_kl": lambda t: -1 / t,
  "js": lambda t: np.log(2 * t / (1 + t)),
  "tv": lambda t: np.where(t > 1, 0.5, np.where(t < 1, -0.5, 0.0)),
  "forward_chi2": lambda t: 1 - t**-2,
  "reverse_chi2": lambda t: 2 * (t - 1),
}


def _f_dpg(divergence):
  """A divergence's twin and its gradient, which is the factor."""

  def gradient(logps, target_logps, *, baseline=0.0):
    return _SLOPES[divergence](np.exp(logps - target_logps)) - baseline

  def twin(logps, target_logps, *, baseline=0.0):
    return gradient(logps, target_logps, baseline=baseline) * logps

  return twin, gradient


f_dpg_reverse_kl, f_dpg_reverse_kl_gradient = _f_dpg("reverse_kl")
f_dpg_forward_kl, f_dpg_forward_kl_gradient = _f_dpg("forward_kl")
f_dpg_js, f_dpg_js_gradient = _f_dpg("js")
f_dpg_tv, f_dpg_tv_gradient = _f_dpg("tv")
f_dpg_forward_chi2, f_dpg_forward_chi2_gradient = _f_dpg("forward_chi2")
f_dpg_reverse_chi2, f_dpg_reverse_chi2_gradient = _f_dpg("reverse_chi2")


def _leave_one_out(rewards):
  n = len(rewards)
  if n < 2:
    return [0.0] * n
  return [r - (sum(rewards) - r) / (n - 1) for r in rewards]


@each_list
def rloo(pi, scores):
  terms = [a * p for a, p in zip(_leave_one_out(scores), pi)]
  return -sum(terms) / max(len(pi), 1)


@each_list
def rloo_gradient(pi, scores):
  return [-a / len(pi) for a in _leave_one_out(scores)]


def nash_md_gradient(
  token_logps, ref_token_logps, preference, mask, *, tau=0.008
):
  """Minus the advantage, in which a token pays for later tokens, too."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    later = [s for s in np.flatnonzero(mask[b]) if s >= t]
    ratio = sum(token_logps[b, s] - ref_token_logps[b, s] for s in later)
    gradient[b, t] = -(preference[b] - 0.5 - tau * ratio)
  return gradient


def nash_md_token_kl_gradient(
  token_logps, ref_token_logps, preference, mask, *, tau=0.1
):
  """Minus the advantage, with only the token's own log-ratio."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    ratio = token_logps[b, t] - ref_token_logps[b, t]
    gradient[b, t] = -(preference[b] - 0.5 - tau * ratio)
  return gradient


def _surrogate_value(slope, token_logps, mask):
  return np.where(mask, slope * token_logps, 0.0).sum(-1)


def nash_md(token_logps, ref_token_logps, preference, mask, *, tau=0.008):
  slope = nash_md_gradient(
    token_logps, ref_token_logps, preference, mask, tau=tau
  )
  return _surrogate_value(slope, token_logps, mask)


def nash_md_token_kl(
  token_logps, ref_token_logps, preference, mask, *, tau=0.1
):
  slope = nash_md_token_kl_gradient(
    token_logps, ref_token_logps, preference, mask, tau=tau
  )
  return _surrogate_value(slope, token_logps, mask)


def nash_prox_gradient(
  token_logps,
  ref_token_logps,
  anchor_token_logps,
  preference,
  mask,
  *,
  tau=0.1,
  step=1.0,
):
  """Minus the advantage: a token pays to two models, for later tokens too."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    advantage = preference[b] - 0.5
    for s in range(t, mask.shape[1]):
      if mask[b, s]:
        advantage -= tau * (token_logps[b, s] - ref_token_logps[b, s])
        advantage -= (token_logps[b, s] - anchor_token_logps[b, s]) / step
    gradient[b, t] = -advantage
  return gradient


def nash_prox(
  token_logps,
  ref_token_logps,
  anchor_token_logps,
  preference,
  mask,
  *,
  tau=0.1,
  step=1.0,
):
  slope = nash_prox_gradient(
    token_logps,
    ref_token_logps,
    anchor_token_logps,
    preference,
    mask,
    tau=tau,
    step=step,
  )
  return _surrogate_value(slope, token_logps, mask)


def sppo_win_rate(logps, ref_logps, preference, *, eta=1e3):
  return np.array(
    [
      (pi - ref - eta * (win - 0.5)) ** 2
      for pi, ref, win in zip(logps, ref_logps, preference)
    ]
  )
