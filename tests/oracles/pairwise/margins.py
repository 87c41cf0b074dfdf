"""Twins of the early losses: sigmoid, squared, odds and hinge losses."""

import math

from tests.oracles.pairwise.scalars import each_pair, log_sigmoid, sigmoid


@each_pair
def dpo(pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=0.0):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  straight = log_sigmoid(beta * h)
  flipped = log_sigmoid(-beta * h)
  return -(1 - label_smoothing) * straight - label_smoothing * flipped


@each_pair
def dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=0.0
):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  d = beta * (sigmoid(-beta * h) - label_smoothing)
  return d, d


@each_pair
def robust_dpo(pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  as_labelled = -log_sigmoid(beta * h)
  as_flipped = -log_sigmoid(-beta * h)
  e = label_smoothing
  return ((1 - e) * as_labelled - e * as_flipped) / (1 - 2 * e)


@each_pair
def robust_dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=0.1
):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  e = label_smoothing
  d = beta * (sigmoid(-beta * h) + e / (1 - 2 * e))
  return d, d


@each_pair
def dpop(pi_w, pi_l, ref_w, ref_l, *, beta=0.3, lam=50.0):
  shortfall = max(0.0, ref_w - pi_w)
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l) - lam * shortfall)
  return -log_sigmoid(z)


@each_pair
def dpop_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.3, lam=50.0):
  shortfall = max(0.0, ref_w - pi_w)
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l) - lam * shortfall)
  c = beta * sigmoid(-z)
  return c * (1 + lam * (pi_w < ref_w)), c


@each_pair
def ipo(pi_w, pi_l, ref_w, ref_l, *, tau=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  return (h - 1 / (2 * tau)) ** 2


@each_pair
def ipo_coefficients(pi_w, pi_l, ref_w, ref_l, *, tau=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  d = 2 * (1 / (2 * tau) - h)
  return d, d


@each_pair
def ipo_avg(pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, tau=0.1):
  h = (pi_w - ref_w) / n_w - (pi_l - ref_l) / n_l
  return (h - 1 / (2 * tau)) ** 2


@each_pair
def ipo_avg_coefficients(pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, tau=0.1):
  h = (pi_w - ref_w) / n_w - (pi_l - ref_l) / n_l
  short = 2 * (1 / (2 * tau) - h)
  return short / n_w, short / n_l


@each_pair
def ipo_soft(pi_w, pi_l, ref_w, ref_l, preference, *, tau=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  outcomes = ((preference, 1.0), (1 - preference, -1.0))  # which one is better
  return sum(p * (sign * h - 1 / (2 * tau)) ** 2 for p, sign in outcomes)


@each_pair
def ipo_soft_coefficients(pi_w, pi_l, ref_w, ref_l, preference, *, tau=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  d = 2 * ((preference - 0.5) / tau - h)
  return d, d


@each_pair
def slic_hf(pi_w, pi_l, *, delta=1.0, lam=0.1):
  return max(0.0, delta - pi_w + pi_l) - lam * pi_w


@each_pair
def slic_hf_coefficients(pi_w, pi_l, *, delta=1.0, lam=0.1):
  active = 1.0 if pi_w - pi_l < delta else 0.0
  return active + lam, active


@each_pair
def simpo(pi_w, pi_l, n_w, n_l, *, beta=2.0, gamma=0.5):
  return -log_sigmoid(beta / n_w * pi_w - beta / n_l * pi_l - gamma)


@each_pair
def simpo_coefficients(pi_w, pi_l, n_w, n_l, *, beta=2.0, gamma=0.5):
  c = beta * sigmoid(gamma - beta * (pi_w / n_w - pi_l / n_l))
  return c / n_w, c / n_l


@each_pair
def cpo(pi_w, pi_l, n_w, *, beta=0.1, alpha=1.0):
  return -log_sigmoid(beta * pi_w - beta * pi_l) + alpha * (-pi_w / n_w)


@each_pair
def cpo_coefficients(pi_w, pi_l, n_w, *, beta=0.1, alpha=1.0):
  c = beta * sigmoid(-beta * (pi_w - pi_l))
  return c + alpha / n_w, c


@each_pair
def orpo(pi_w, pi_l, n_w, n_l, *, lam=0.1):
  p_w, p_l = math.exp(pi_w / n_w), math.exp(pi_l / n_l)
  odds_w, odds_l = p_w / (1 - p_w), p_l / (1 - p_l)
  return -math.log(p_w) + lam * -log_sigmoid(math.log(odds_w / odds_l))


@each_pair
def orpo_coefficients(pi_w, pi_l, n_w, n_l, *, lam=0.1):
  p_w, p_l = math.exp(pi_w / n_w), math.exp(pi_l / n_l)
  odds_w, odds_l = p_w / (1 - p_w), p_l / (1 - p_l)
  c = lam * odds_l / (odds_w + odds_l)
  return 1 / n_w + c / (n_w * (1 - p_w)), c / (n_l * (1 - p_l))
