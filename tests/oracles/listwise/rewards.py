"""Twins of the losses on implicit rewards, beta log(pi / ref)."""

import math

from tests.oracles.listwise.one_list import (
  best_first,
  each_list,
  ordered_pairs,
  softmax,
)
from tests.oracles.pairwise.scalars import log_sigmoid


def _rewards(pi, ref, beta):
  return [beta * (p - r) for p, r in zip(pi, ref)]


@each_list
def pair_logistic(pi, ref, scores, *, beta=0.05):
  s = _rewards(pi, ref, beta)
  return sum(-log_sigmoid(s[i] - s[j]) for i, j in ordered_pairs(scores))


@each_list
def pair_hinge(pi, ref, scores, *, beta=0.05):
  s = _rewards(pi, ref, beta)
  return sum(max(0.0, 1 - (s[i] - s[j])) for i, j in ordered_pairs(scores))


def _lambda_terms(pi, ref, scores, beta, log):
  s = _rewards(pi, ref, beta)
  rank = {k: n for n, k in enumerate(best_first(s), start=1)}
  terms = []
  for i, j in ordered_pairs(scores):
    gain = abs((2 ** scores[i] - 1) - (2 ** scores[j] - 1))
    discount = abs(1 / log(1 + rank[i]) - 1 / log(1 + rank[j]))
    terms.append(gain * discount * -log_sigmoid(s[i] - s[j]))
  return terms


@each_list
def lipo_lambda(pi, ref, scores, *, beta=0.05):
  return sum(_lambda_terms(pi, ref, scores, beta, math.log))


@each_list
def lipo_lambda_rax(pi, ref, scores, *, beta=0.05):
  terms = _lambda_terms(pi, ref, scores, beta, math.log2)
  return len(pi) * sum(terms) / len(terms) if terms else 0.0


@each_list
def list_mle(pi, ref, scores, *, beta=0.05):
  s = _rewards(pi, ref, beta)
  left, total = best_first(scores), 0.0
  while left:
    total -= math.log(math.exp(s[left[0]]) / sum(math.exp(s[j]) for j in left))
    left = left[1:]
  return total


@each_list
def list_net(pi, ref, scores, *, beta=0.05):
  labels = [max(x, 0.0) for x in scores]
  if not sum(labels):
    return 0.0
  model = softmax(_rewards(pi, ref, beta))
  return -sum(x / sum(labels) * math.log(m) for x, m in zip(labels, model))


@each_list
def point_mse(pi, ref, scores, *, beta=0.05):
  s = _rewards(pi, ref, beta)
  return sum((label - x) ** 2 for label, x in zip(scores, s))


@each_list
def point_sigmoid(pi, ref, scores, *, beta=0.05):
  return -sum(
    label * log_sigmoid(x) + (1 - label) * log_sigmoid(-x)
    for label, x in zip(scores, _rewards(pi, ref, beta))
  )


@each_list
def info_nca(pi, ref, scores, *, beta=0.1, alpha=1.0):
  label = softmax([x / alpha for x in scores])
  model = softmax(_rewards(pi, ref, beta))
  return -sum(w * math.log(m) for w, m in zip(label, model))


@each_list
def nca_list(pi, ref, scores, *, beta=0.1, alpha=1.0):
  if len(pi) < 2:
    return 0.0
  label = softmax([x / alpha for x in scores])
  return -sum(
    w * log_sigmoid(q) + log_sigmoid(-q) / len(pi)
    for w, q in zip(label, _rewards(pi, ref, beta))
  )


@each_list
def exo_list(pi, ref, scores, *, beta=0.1, beta_r=0.1):
  model = softmax(_rewards(pi, ref, beta))
  target = softmax([x / beta_r for x in scores])
  return sum(m * math.log(m / t) for m, t in zip(model, target))
