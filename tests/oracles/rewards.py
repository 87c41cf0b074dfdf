"""float64 twins of jalign.losses.rewards, one example at a time."""

import itertools
import math

import numpy as np

from tests.oracles.more import forms
from tests.oracles.pairwise.scalars import each_pair, log_sigmoid


def _cross_entropy(p, log_win, log_loss):
  return -(p * log_win + (1 - p) * log_loss)


@each_pair
def bradley_terry(s_w, s_l, *, label_smoothing=0.0, centring=0.0):
  loss = _cross_entropy(
    1 - label_smoothing, log_sigmoid(s_w - s_l), log_sigmoid(s_l - s_w)
  )
  return loss + centring * (s_w + s_l) ** 2


@each_pair
def bradley_terry_margin(s_w, s_l, margin):
  return -log_sigmoid(s_w - s_l - margin)


@each_pair
def bradley_terry_soft(s_w, s_l, preference):
  return _cross_entropy(
    preference, log_sigmoid(s_w - s_l), log_sigmoid(s_l - s_w)
  )


def bradley_terry_list(scores, ranks, valid):
  losses = []
  for s, rank, there in zip(scores, ranks, valid):
    terms = [
      -log_sigmoid(s[i] - s[j])
      for i, j in itertools.permutations(range(len(s)), 2)
      if there[i] and there[j] and rank[i] < rank[j]
    ]
    losses.append(np.mean(terms) if terms else 0.0)
  return np.array(losses)


@each_pair
def cost_model(c_w, c_l, unsafe_w, unsafe_l):
  loss = -log_sigmoid(c_w - c_l)
  for cost, unsafe in ((c_w, unsafe_w), (c_l, unsafe_l)):
    loss -= log_sigmoid(cost if unsafe else -cost)
  return loss


@each_pair
def pairwise_preference(f, swapped, preference):
  return _cross_entropy(
    preference, log_sigmoid(f - swapped), log_sigmoid(swapped - f)
  )


@each_pair
def pairwise_preference_averaged(f, swapped, preference):
  in_order, in_swapped_order = (
    math.exp(log_sigmoid(f)),
    1 / (1 + math.exp(swapped)),
  )
  p = (in_order + in_swapped_order) / 2
  return _cross_entropy(preference, math.log(p), math.log(1 - p))


def general_preference(first, second, preference):
  size = first.shape[1]
  turn = np.zeros((size, size))
  for k in range(0, size, 2):
    turn[k, k + 1], turn[k + 1, k] = 1, -1
  losses = []
  for v, w, p in zip(first, second, preference):
    score = v @ turn @ w
    losses.append(_cross_entropy(p, log_sigmoid(score), log_sigmoid(-score)))
  return np.array(losses)


@each_pair
def binary_discrimination(s, good):
  return -log_sigmoid(s if good else -s)


def _mean_of_labelled(term, valid, *arrays):
  losses = []
  for there, *row in zip(valid, *arrays):
    terms = [
      term(*values) for labelled, *values in zip(there, *row) if labelled
    ]
    losses.append(np.mean(terms) if terms else 0.0)
  return np.array(losses)


def _logistic(s, label):
  return _cross_entropy(label, log_sigmoid(s), log_sigmoid(-s))


def objective_bradley_terry(chosen, rejected, preference, valid):
  term = lambda s_w, s_l, p: _logistic(s_w - s_l, p)
  return _mean_of_labelled(term, valid, chosen, rejected, preference)


def rating_regression(scores, ratings, rated):
  term = lambda s, r: (s - r) ** 2
  return _mean_of_labelled(term, rated, scores, ratings)


def rating_logistic(scores, ratings, rated):
  return _mean_of_labelled(_logistic, rated, scores, ratings)


more, more_gradient = forms(lambda norm, loss: 1.0)
more_l2, more_l2_gradient = forms(lambda norm, loss: norm)
more_loss, more_loss_gradient = forms(lambda norm, loss: loss)
more_loss_plus, more_loss_plus_gradient = forms(lambda norm, loss: loss * norm)


def vpl(chosen, rejected, means, log_variances, *, kl_weight=0.01):
  losses = []
  for s_w, s_l, mean, log_variance in zip(
    chosen, rejected, means, log_variances
  ):
    kl = 0.0
    for m, v in zip(mean, log_variance):
      kl += -0.5 * (1 + v - m**2 - math.exp(v))
    losses.append(-log_sigmoid(s_w - s_l) + kl_weight * kl)
  return np.array(losses)


@each_pair
def pal_logistic(s_w, s_l):
  return -log_sigmoid(s_w - s_l)


@each_pair
def pal_hinge(s_w, s_l, *, margin=1.0):
  return max(0.0, margin - (s_w - s_l))


@each_pair
def critique_reward(s_w, s_l, c_w, c_l, n_w, n_l, *, ranking=1.0):
  likelihood = (c_w + c_l) / max(n_w + n_l, 1)
  return -likelihood - ranking * log_sigmoid(s_w - s_l)


def _matching(elements, views, temperature):
  """SimCSE of a list of elements and of their second views."""
  cosine = lambda x, y: x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
  losses = []
  for i, x in enumerate(elements):
    weights = [math.exp(cosine(x, y) / temperature) for y in views]
    losses.append(-math.log(weights[i] / sum(weights)))
  return losses


def _of_pairs(element, chosen, rejected, chosen_views, rejected_views, valid):
  there = [b for b in range(len(valid)) if valid[b].all()]

  def sides(good, bad):
    first = [element(good[b], bad[b]) for b in there]
    return first + [element(bad[b], good[b]) for b in there]

  return there, sides(chosen, rejected), sides(chosen_views, rejected_views)


def _simcse(element, arrays, temperature):
  there, elements, views = _of_pairs(element, *arrays)
  losses = np.zeros(len(arrays[-1]))
  for b, loss in zip(there + there, _matching(elements, views, temperature)):
    losses[b] += loss / 2
  return losses


def simcse(*arrays, temperature=0.05):
  return _simcse(lambda mine, other: mine, arrays, temperature)


def simcse_differences(*arrays, temperature=0.05):
  return _simcse(lambda mine, other: mine - other, arrays, temperature)
