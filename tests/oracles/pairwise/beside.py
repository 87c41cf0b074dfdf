"""Twins of the losses that take more than a pair, or anchor each response."""

import math

import numpy as np

from tests.oracles.pairwise.scalars import each_pair, log_sigmoid, sigmoid


@each_pair
def bco(pi_w, pi_l, ref_w, ref_l, *, beta=0.1, shift=0.0):
  good = sigmoid(beta * (pi_w - ref_w) - shift)
  bad = sigmoid(beta * (pi_l - ref_l) - shift)
  return -math.log(good) - math.log(1 - bad)


@each_pair
def bco_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.1, shift=0.0):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  return beta * sigmoid(shift - q_w), beta * sigmoid(q_l - shift)


def _modpo_z(row, beta, weights):
  pi_w, pi_l, ref_w, ref_l, above, below = row
  h = (pi_w - ref_w) - (pi_l - ref_l)
  other = sum(w * (a - b) for w, a, b in zip(weights[1:], above, below))
  return (beta * h - other) / weights[0]


def modpo(*arrays, beta=0.1, weights=(0.5, 0.5)):
  rows = zip(*arrays)
  return np.array([-log_sigmoid(_modpo_z(x, beta, weights)) for x in rows])


def modpo_coefficients(*arrays, beta=0.1, weights=(0.5, 0.5)):
  d = [sigmoid(-_modpo_z(row, beta, weights)) for row in zip(*arrays)]
  return beta / weights[0] * np.array([d, d]).T


modpo_settings = {"beta": 0.18, "weights": (0.3, 0.7)}


def _mm_beta(s_w, s_l, beta, w, k):
  growth = w * (1 - math.exp(-k * (s_w - s_l)))
  return beta * (1 + min(max(growth, 0.0), w))


@each_pair
def mm_dpo(pi_w, pi_l, ref_w, ref_l, s_w, s_l, *, beta=0.1, w=0.5, k=0.5):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  return -log_sigmoid(_mm_beta(s_w, s_l, beta, w, k) * h)


@each_pair
def mm_dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, s_w, s_l, *, beta=0.1, w=0.5, k=0.5
):
  b = _mm_beta(s_w, s_l, beta, w, k)
  d = b * sigmoid(-b * ((pi_w - ref_w) - (pi_l - ref_l)))
  return d, d


@each_pair
def flex_dpo(pi_w, pi_l, ref_w, ref_l, *, beta_chosen=0.1, beta_rejected=0.05):
  up = math.exp(beta_chosen * (pi_w - ref_w))
  down = math.exp(beta_rejected * (pi_l - ref_l))
  return -math.log(up / (up + down))


@each_pair
def flex_dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, *, beta_chosen=0.1, beta_rejected=0.05
):
  z = beta_chosen * (pi_w - ref_w) - beta_rejected * (pi_l - ref_l)
  return beta_chosen * sigmoid(-z), beta_rejected * sigmoid(-z)


def _dpo(pi_w, pi_l, ref_w, ref_l, beta):
  return -log_sigmoid(beta * ((pi_w - ref_w) - (pi_l - ref_l)))


def _dpo_slope(pi_w, pi_l, ref_w, ref_l, beta):
  return beta * sigmoid(-beta * ((pi_w - ref_w) - (pi_l - ref_l)))


@each_pair
def selm(pi_w, pi_l, ref_w, ref_l, pi_0, ref_0, *, beta=0.01, alpha=0.001):
  old = alpha * beta * (pi_0 - ref_0)
  return _dpo(pi_w, pi_l, ref_w, ref_l, beta) + old


@each_pair
def selm_coefficients(
  pi_w, pi_l, ref_w, ref_l, pi_0, ref_0, *, beta=0.01, alpha=0.001
):
  d = _dpo_slope(pi_w, pi_l, ref_w, ref_l, beta)
  return d, d


@each_pair
def rationale_dpo(pi_w, pi_l, ref_w, ref_l, reason, *, beta=0.1, gamma=0.1):
  return _dpo(pi_w, pi_l, ref_w, ref_l, beta) - gamma * reason


@each_pair
def rationale_dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, reason, *, beta=0.1, gamma=0.1
):
  d = _dpo_slope(pi_w, pi_l, ref_w, ref_l, beta)
  return d, d


@each_pair
def rationale_dpo_logsigmoid(
  pi_w, pi_l, ref_w, ref_l, reason, *, beta=0.1, gamma=0.1
):
  return _dpo(pi_w, pi_l, ref_w, ref_l, beta) - log_sigmoid(gamma * reason)


rationale_dpo_logsigmoid_coefficients = rationale_dpo_coefficients


@each_pair
def tpo(pi_w, pi_l, gold, *, beta=0.2, alpha=0.9):
  return -log_sigmoid(beta * (pi_w - pi_l)) - alpha * gold


@each_pair
def tpo_coefficients(pi_w, pi_l, gold, *, beta=0.2, alpha=0.9):
  d = beta * sigmoid(beta * (pi_l - pi_w))
  return d, d


@each_pair
def tpo_l(pi_w, pi_l, gold, n_w, n_l, *, beta=0.01, alpha=1.0, gamma=0.5):
  margin = beta / n_w * pi_w - beta / n_l * pi_l
  return -log_sigmoid(margin - gamma) - alpha * gold


@each_pair
def tpo_l_coefficients(
  pi_w, pi_l, gold, n_w, n_l, *, beta=0.01, alpha=1.0, gamma=0.5
):
  c = beta * sigmoid(gamma - beta * (pi_w / n_w - pi_l / n_l))
  return c / n_w, c / n_l


def _discounted(whole, first, alpha):
  return first + alpha * (whole - first)


def _ld_margin(row, alpha):
  pi_w, pi_l, ref_w, ref_l = (
    _discounted(whole, first, alpha) for whole, first in zip(row[:4], row[4:])
  )
  return (pi_w - ref_w) - (pi_l - ref_l)


@each_pair
def ld_dpo(*row, beta=0.1, alpha=0.5):
  return -log_sigmoid(beta * _ld_margin(row, alpha))


@each_pair
def ld_dpo_coefficients(*row, beta=0.1, alpha=0.5):
  d = alpha * beta * sigmoid(-beta * _ld_margin(row, alpha))
  return d, d


ld_dpo_settings = {"beta": 0.18, "alpha": 0.7}


def _likeness(pi_w, pi_l, collision_w, collision_l, n_w, n_l):
  as_drawn_w = math.exp((pi_w - collision_w) / n_w)
  as_drawn_l = math.exp((pi_l - collision_l) / n_l)
  return as_drawn_w * as_drawn_l


@each_pair
def wpo(pi_w, pi_l, ref_w, ref_l, *beside, beta=0.1):
  weight = _likeness(pi_w, pi_l, *beside)
  return weight * _dpo(pi_w, pi_l, ref_w, ref_l, beta)


@each_pair
def wpo_coefficients(pi_w, pi_l, ref_w, ref_l, *beside, beta=0.1):
  d = _likeness(pi_w, pi_l, *beside) * _dpo_slope(
    pi_w, pi_l, ref_w, ref_l, beta
  )
  return d, d


def wpo_gradient(*arrays, beta=0.1):
  return -wpo_coefficients(*arrays, beta=beta)[:, 0]
