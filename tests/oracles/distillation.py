"""float64 twins of jalign.losses.distillation, one token at a time."""

import numpy as np


def _softmax(z):
  e = np.exp(z - z.max())
  return e / e.sum()


def _kl(p, q):
  return float(np.sum(p * np.log(p / q)))


def _responses(token_loss, mask, *logits):
  """Lists of the scored tokens' losses, one for each response."""
  return [
    [
      token_loss(*(z[b, t] for z in logits))
      for t in range(mask.shape[1])
      if mask[b, t]
    ]
    for b in range(len(mask))
  ]


def align_distil(student, dpo, reverse, mask, *, beta=0.1, extrapolation=15.0):
  def token(z, up, down):
    distance = np.abs(_softmax(up) - _softmax(down)).sum()
    w = extrapolation * distance + 1e-3
    teacher = _softmax((1 + w) * up - w * down)
    return beta / w * _kl(_softmax(z), teacher)

  rows = _responses(token, mask, student, dpo, reverse)
  return np.array([np.mean(row) if row else 0.0 for row in rows])


def token_distillation(student, dpo, ref, mask, *, beta=0.1, dpo_beta=0.1):
  w = dpo_beta / beta

  def token(z, up, base):
    # the maximum of the token's RLHF objective, less the student's value
    reward = dpo_beta * (np.log(_softmax(up)) - np.log(_softmax(base)))
    value = lambda p: p @ reward - beta * _kl(p, _softmax(base))
    best = _softmax(w * up + (1 - w) * base)
    return value(best) - value(_softmax(z))

  rows = _responses(token, mask, student, dpo, ref)
  return np.array([sum(row, 0.0) for row in rows])


def context_distillation(context_kl, mask):
  return np.array([sum(row[m]) for row, m in zip(context_kl, mask)])


def top_k_distillation(top_logps, ref_top_logps, mask, *, k=50):
  apart = min(int(k), top_logps.shape[-1] - 1)

  def token(q, p):
    q, p = (
      np.append(x[:apart], np.logaddexp.reduce(x[apart:])) for x in (q, p)
    )
    return float(np.sum(np.exp(p) * (p - q)))

  rows = _responses(token, mask, top_logps, ref_top_logps)
  return np.array([sum(row, 0.0) for row in rows])


top_k_distillation_settings = {"k": 2}
