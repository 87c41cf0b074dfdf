"""Twins of the losses that sort a batch."""

import numpy as np

from tests.oracles.pairwise.scalars import log_sigmoid, sigmoid


def _matched(mine, theirs, valid):
  """Valid rows' index pairs (b, a): mine[b] and theirs[a] have equal ranks."""
  rows = [b for b in range(len(valid)) if valid[b]]
  ascending = lambda x: sorted(rows, key=lambda b: x[b])
  return zip(ascending(mine), ascending(theirs))


def _link(mine, theirs, valid, beta, e):
  loss = np.zeros(len(mine))
  for b, a in _matched(mine, theirs, valid):
    z = beta * (mine[b] - theirs[a])
    loss[b] = -(1 - e) * log_sigmoid(z) - e * log_sigmoid(-z)
  return loss


def aot_paired(
  pi_w, pi_l, ref_w, ref_l, valid, *, beta=0.1, label_smoothing=0.0
):
  return _link(pi_w - pi_l, ref_w - ref_l, valid, beta, label_smoothing)


def aot_paired_coefficients(
  pi_w, pi_l, ref_w, ref_l, valid, *, beta=0.1, label_smoothing=0.0
):
  mine, theirs = pi_w - pi_l, ref_w - ref_l
  d = np.zeros((len(mine), 2))
  for b, a in _matched(mine, theirs, valid):
    d[b] = beta * (sigmoid(-beta * (mine[b] - theirs[a])) - label_smoothing)
  return d


def aot_unpaired(
  pi_w, pi_l, ref_w, ref_l, valid, *, beta=0.1, label_smoothing=0.0
):
  return _link(pi_w - ref_w, pi_l - ref_l, valid, beta, label_smoothing)


def aot_unpaired_coefficients(
  pi_w, pi_l, ref_w, ref_l, valid, *, beta=0.1, label_smoothing=0.0
):
  mine, theirs = pi_w - ref_w, pi_l - ref_l
  d = np.zeros((len(mine), 2))
  for b, a in _matched(mine, theirs, valid):
    c = beta * (sigmoid(-beta * (mine[b] - theirs[a])) - label_smoothing)
    d[b, 0], d[a, 1] = c, c
  return d
