"""float64 twins of jalign.losses.unpaired, a response at a time."""

import numpy as np

from tests.oracles.pairwise.scalars import sigmoid


def _origin(mismatched, ref_mismatched, valid):
  ratios = [
    pi - ref for pi, ref, v in zip(mismatched, ref_mismatched, valid) if v
  ]
  return max(0.0, sum(ratios) / len(ratios)) if ratios else 0.0


def kto(
  logps,
  ref_logps,
  desirable,
  mismatched,
  ref_mismatched,
  valid,
  *,
  beta=0.1,
  desirable_weight=1.0,
  undesirable_weight=1.0,
):
  z0, loss = _origin(mismatched, ref_mismatched, valid), np.zeros(len(logps))
  for b, (pi, ref) in enumerate(zip(logps, ref_logps)):
    if valid[b] and desirable[b]:
      loss[b] = desirable_weight * (1 - sigmoid(beta * (pi - ref - z0)))
    elif valid[b]:
      loss[b] = undesirable_weight * (1 - sigmoid(beta * (z0 - (pi - ref))))
  return loss


def kto_gradient(
  logps,
  ref_logps,
  desirable,
  mismatched,
  ref_mismatched,
  valid,
  *,
  beta=0.1,
  desirable_weight=1.0,
  undesirable_weight=1.0,
):
  z0, slope = _origin(mismatched, ref_mismatched, valid), np.zeros(len(logps))
  for b, (pi, ref) in enumerate(zip(logps, ref_logps)):
    up = sigmoid(beta * (pi - ref - z0))
    weight = -desirable_weight if desirable[b] else undesirable_weight
    slope[b] = valid[b] * weight * beta * up * (1 - up)
  return slope


def _bco(pi, ref, desirable, beta, shift):
  p = sigmoid(beta * (pi - ref) - shift)
  return -np.log(p if desirable else 1 - p)


def bco_unpaired(logps, ref_logps, desirable, *, beta=0.1, shift=0.0):
  rows = zip(logps, ref_logps, desirable)
  return np.array([_bco(*row, beta, shift) for row in rows])


def bco_unpaired_matched(
  logps,
  ref_logps,
  desirable,
  desirable_rate,
  *,
  beta=0.1,
  shift=0.0,
  lowest=0.5,
  highest=10.0,
):
  loss = bco_unpaired(logps, ref_logps, desirable, beta=beta, shift=shift)
  for b, p in enumerate(desirable_rate):
    if not desirable[b]:
      loss[b] *= min(max(p / (1 - p), lowest), highest)
  return loss


def apo_zero_unpaired(logps, ref_logps, desirable, *, beta=0.1):
  up = np.array([sigmoid(beta * (p - r)) for p, r in zip(logps, ref_logps)])
  return np.where(desirable, 1 - up, up)
