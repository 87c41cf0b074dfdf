"""float64 twins of jalign.losses.games, a token at a time."""

import numpy as np


def nash_md_gradient(
  token_logps, ref_token_logps, preference, mask, *, tau=0.008
):
  """Minus the advantage, which charges a token for what comes after it too."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    later = [s for s in np.flatnonzero(mask[b]) if s >= t]
    ratio = sum(token_logps[b, s] - ref_token_logps[b, s] for s in later)
    gradient[b, t] = -(preference[b] - 0.5 - tau * ratio)
  return gradient


def nash_md_token_kl_gradient(
  token_logps, ref_token_logps, preference, mask, *, tau=0.1
):
  """Minus the advantage, with the token's own log-ratio alone."""
  gradient = np.zeros_like(token_logps)
  for b, t in np.argwhere(mask):
    ratio = token_logps[b, t] - ref_token_logps[b, t]
    gradient[b, t] = -(preference[b] - 0.5 - tau * ratio)
  return gradient


def _value(slope, token_logps, mask):
  return np.where(mask, slope * token_logps, 0.0).sum(-1)


def nash_md(token_logps, ref_token_logps, preference, mask, *, tau=0.008):
  slope = nash_md_gradient(
    token_logps, ref_token_logps, preference, mask, tau=tau
  )
  return _value(slope, token_logps, mask)


def nash_md_token_kl(
  token_logps, ref_token_logps, preference, mask, *, tau=0.1
):
  slope = nash_md_token_kl_gradient(
    token_logps, ref_token_logps, preference, mask, tau=tau
  )
  return _value(slope, token_logps, mask)
