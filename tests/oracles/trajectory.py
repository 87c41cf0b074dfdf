"""float64 twins of jalign.losses.trajectory, a pair of segments at a time."""

import math

import numpy as np


def _advantage(steps, scored, alpha, discount):
  """The advantage of a segment; the weight falls with each scored step."""
  total, weight = 0.0, alpha
  for step, counts in zip(steps, scored):
    if counts:
      total += weight * step
      weight *= discount
  return total


def _first_wins(first, second, bias):
  return -math.log(
    math.exp(first) / (math.exp(first) + math.exp(bias * second))
  )


def _labelled(first, second, preference, bias):
  return preference * _first_wins(first, second, bias) + (
    1 - preference
  ) * _first_wins(second, first, bias)


def cpl(step_logps, preference, mask, *, alpha=0.1, bias=0.5, discount=1.0):
  losses = []
  for steps, label, scored in zip(step_logps, preference, mask):
    a, b = (_advantage(steps[i], scored[i], alpha, discount) for i in (0, 1))
    losses.append(_labelled(a, b, label, bias))
  return np.array(losses)


def cpl_kl(
  step_logps,
  ref_step_logps,
  preference,
  mask,
  *,
  alpha=0.2,
  bias=0.75,
  discount=1.0,
):
  return cpl(
    step_logps - ref_step_logps,
    preference,
    mask,
    alpha=alpha,
    bias=bias,
    discount=discount,
  )


def cpl_ranked(
  step_logps, scores, valid, mask, *, alpha=0.1, bias=0.5, discount=1.0
):
  losses = []
  for steps, score, real, scored in zip(step_logps, scores, valid, mask):
    a = [_advantage(*x, alpha, discount) for x in zip(steps, scored)]
    pairs = [
      _first_wins(a[i], a[j], bias)
      for i in np.flatnonzero(real)
      for j in np.flatnonzero(real)
      if score[i] > score[j]
    ]
    losses.append(sum(pairs) / len(pairs) if pairs else 0.0)
  return np.array(losses)


cpl_settings = {"alpha": 0.3, "bias": 0.8, "discount": 0.9}
cpl_kl_settings = cpl_ranked_settings = cpl_settings


def regret_preference(step_advantages, preference, mask):
  losses = []
  for steps, label, scored in zip(step_advantages, preference, mask):
    regrets = [-steps[i][scored[i]].sum() for i in (0, 1)]
    p = 1 / (1 + math.exp(regrets[0] - regrets[1]))
    losses.append(-label * math.log(p) - (1 - label) * math.log(1 - p))
  return np.array(losses)


def partial_return_preference(step_rewards, preference, mask):
  losses = []
  for steps, label, scored in zip(step_rewards, preference, mask):
    first, second = (math.exp(steps[i][scored[i]].sum()) for i in (0, 1))
    p = first / (first + second)
    losses.append(-label * math.log(p) - (1 - label) * math.log(1 - p))
  return np.array(losses)
