"""float64 twins of jalign.losses.likelihood, a response at a time."""

import math

import numpy as np


def sft(logps):
  return np.array([0.0 - logp for logp in logps])


def sft_sum(logps):
  return np.array([-logp for logp in logps])


def sft_avg(logps, lengths):
  return np.array([-logp / n for logp, n in zip(logps, lengths)])


def unlikelihood(
  token_logps, candidate_logps, candidate_mask, mask, *, alpha=1.0
):
  losses = []
  for logps, others, candidates, scored in zip(
    token_logps, candidate_logps, candidate_mask, mask
  ):
    loss = 0.0
    for t in np.flatnonzero(scored):
      loss -= logps[t]
      for c in np.flatnonzero(candidates[t]):
        loss -= alpha * math.log(max(1 - math.exp(others[t, c]), 1e-5))
    losses.append(loss)
  return np.array(losses)


def unlikelihood_sequence(token_logps, repeats, mask):
  return np.array(
    [
      sum(-math.log(1 - math.exp(z)) for z in logps[repeated & scored])
      for logps, repeated, scored in zip(token_logps, repeats, mask)
    ]
  )


def cut(
  token_logps,
  positive_token_logps,
  negative_token_logps,
  aligned,
  mask,
  *,
  lam=1.1,
  alpha=1.0,
  gamma=0.0,
):
  losses = []
  for plain, positive, negative, good, scored in zip(
    token_logps, positive_token_logps, negative_token_logps, aligned, mask
  ):
    p, q, n = np.exp(plain), np.exp(positive), np.exp(negative)
    total = 0.0
    for t in np.flatnonzero(scored):
      if n[t] > lam * q[t]:
        total += alpha * n[t] ** gamma * math.log(1 - p[t])
      else:
        total += math.log(p[t])
      total += math.log(p[t] if good else n[t])
    losses.append(-total / max(scored.sum(), 1))
  return np.array(losses)


def cut_gradient(
  token_logps,
  positive_token_logps,
  negative_token_logps,
  aligned,
  mask,
  *,
  lam=1.1,
  alpha=1.0,
  gamma=0.0,
):
  """d log(1 - p) / d log p = -p / (1 - p)."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    p = math.exp(token_logps[b, t])
    n = math.exp(negative_token_logps[b, t])
    if n > lam * math.exp(positive_token_logps[b, t]):
      slope = alpha * n**gamma * p / (1 - p)
    else:
      slope = -1.0
    gradient[b, t] = (slope - aligned[b]) / mask[b].sum()
  return gradient


def poft(logps, lengths, aligned_logps, aligned_lengths):
  losses = []
  for logp, n, others, their_n in zip(
    logps, lengths, aligned_logps, aligned_lengths
  ):
    p = math.exp(logp / n)
    geometric_mean = math.prod(np.exp(others / their_n)) ** (1 / len(others))
    losses.append(-math.log(p / (p + geometric_mean)))
  return np.array(losses)


def _clipped(ratio, clip):
  return np.minimum(np.maximum(ratio, 1 - clip), 1 + clip)


def a_lol(logps, ref_logps, rewards, values, *, clip=0.9):
  weights = _clipped(np.exp(logps - ref_logps), clip)
  return -np.maximum(rewards - values, 0) * weights * logps


def a_lol_gradient(logps, ref_logps, rewards, values, *, clip=0.9):
  return -np.maximum(rewards - values, 0) * _clipped(
    np.exp(logps - ref_logps), clip
  )


a_lol_settings = {"clip": 0.3}


def a_lol_ref_free(logps, rewards, values):
  return -np.maximum(rewards - values, 0) * logps


def a_lol_kl(logps, ref_logps, rewards, values, *, beta=0.1):
  return -np.maximum(rewards - values, 0) * logps + beta * (logps - ref_logps)


def r_lol(logps, ref_logps, rewards, *, clip=0.9):
  return -rewards * _clipped(np.exp(logps - ref_logps), clip) * logps


def r_lol_gradient(logps, ref_logps, rewards, *, clip=0.9):
  return -rewards * _clipped(np.exp(logps - ref_logps), clip)


r_lol_settings = {"clip": 0.3}


def a_lol_seq(token_logps, ref_token_logps, rewards, values, mask, *, clip=0.9):
  losses = []
  for logps, refs, reward, value, scored in zip(
    token_logps, ref_token_logps, rewards, values, mask
  ):
    total = 0.0
    for t in np.flatnonzero(scored):
      total += _clipped(math.exp(logps[t] - refs[t]), clip) * logps[t]
    losses.append(-max(reward - value, 0) * total)
  return np.array(losses)


def a_lol_seq_gradient(
  token_logps, ref_token_logps, rewards, values, mask, *, clip=0.9
):
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    ratio = math.exp(token_logps[b, t] - ref_token_logps[b, t])
    gradient[b, t] = -max(rewards[b] - values[b], 0) * _clipped(ratio, clip)
  return gradient


a_lol_seq_settings = {"clip": 0.3}
