"""Twins of the losses on averages."""

import math

from tests.oracles.listwise.one_list import (
  best_first,
  each_list,
  ordered_pairs,
)


def _averages(pi, lengths):
  return [p / n for p, n in zip(pi, lengths)]


@each_list
def pro(pi, lengths, scores, *, beta_sft=0.05):
  order = best_first(scores)
  p = [pi[k] / lengths[k] for k in order]
  r = [scores[k] for k in order]
  total = 0.0
  for k in range(len(order) - 1):
    gaps = {i: r[k] - r[i] for i in range(k + 1, len(order))}
    own = math.exp(p[k] * max(gaps.values()))
    others = sum(math.exp(p[i] * gap) for i, gap in gaps.items())
    total -= math.log(own / (own + others))
  if order:
    total -= beta_sft * (len(order) - 1) ** 2 * pi[order[0]]
  return total


@each_list
def rrhf(pi, lengths, scores, *, exponent=1.0, beta_sft=1.0):
  p = [x / n**exponent for x, n in zip(pi, lengths)]
  ranking = sum(max(0.0, p[j] - p[i]) for i, j in ordered_pairs(scores))
  likelihood = sum(pi[k] for k in best_first(scores)[:1])
  return ranking - beta_sft * likelihood


@each_list
def aft(pi, lengths, scores):
  p = _averages(pi, lengths)
  return math.log(
    1 + sum(math.exp(p[j] - p[i]) for i, j in ordered_pairs(scores))
  )


@each_list
def aft_detached(pi, lengths, scores):
  p = _averages(pi, lengths)
  return math.log(
    1 + sum(math.exp(p[j]) / math.exp(p[i]) for i, j in ordered_pairs(scores))
  )


@each_list
def aft_detached_gradient(pi, lengths, scores):
  p = _averages(pi, lengths)
  pairs = ordered_pairs(scores)
  total = 1 + sum(math.exp(p[j] - p[i]) for i, j in pairs)
  gradient = [0.0] * len(p)
  for i, j in pairs:
    gradient[i] -= math.exp(p[j] - p[i]) / total / lengths[i]
  return gradient


def _boundary_terms(pi, lengths, scores, boundary):
  """A list of (better, worse, e^difference, e^constraint), one per pair."""
  p = _averages(pi, lengths)
  terms = []
  for i, j in ordered_pairs(scores):
    least = min(p[k] for k in range(len(p)) if scores[k] > scores[j])
    constant = 2 * least - 2 * boundary - p[i]
    terms.append((i, j, math.exp(p[j] - p[i]), math.exp(constant - p[j])))
  return terms


@each_list
def aft_boundary(pi, lengths, scores, *, boundary=0.2):
  terms = _boundary_terms(pi, lengths, scores, boundary)
  return math.log(1 + sum(up + back for _, _, up, back in terms))


@each_list
def aft_boundary_gradient(pi, lengths, scores, *, boundary=0.2):
  terms = _boundary_terms(pi, lengths, scores, boundary)
  total = 1 + sum(up + back for _, _, up, back in terms)
  gradient = [0.0] * len(pi)
  for i, j, up, back in terms:
    gradient[i] -= up / total / lengths[i]
    gradient[j] += (up - back) / total / lengths[j]
  return gradient
