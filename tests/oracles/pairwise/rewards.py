"""Twins of losses that bend or offset the margin, or treat rewards singly."""

import math

from tests.oracles.pairwise.scalars import each_pair, log_sigmoid, sigmoid


@each_pair
def dpo_soft(pi_w, pi_l, ref_w, ref_l, preference, *, beta=0.1):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  outcomes = ((preference, 1.0), (1 - preference, -1.0))  # which one is better
  return sum(-p * log_sigmoid(sign * beta * h) for p, sign in outcomes)


@each_pair
def dpo_soft_coefficients(pi_w, pi_l, ref_w, ref_l, preference, *, beta=0.1):
  d = beta * (preference - sigmoid(beta * ((pi_w - ref_w) - (pi_l - ref_l))))
  return d, d


def _f_dpo(slope, pi_w, pi_l, ref_w, ref_l, beta):
  """The loss from f', the slope of a divergence's f, at both ratios."""
  u_w, u_l = math.exp(pi_w - ref_w), math.exp(pi_l - ref_l)
  return -log_sigmoid(beta * slope(u_w) - beta * slope(u_l))


def _f_dpo_coefficients(slope, curve, pi_w, pi_l, ref_w, ref_l, beta):
  """The coefficients from f' and u f''(u)."""
  u_w, u_l = math.exp(pi_w - ref_w), math.exp(pi_l - ref_l)
  c = beta * sigmoid(beta * slope(u_l) - beta * slope(u_w))
  return c * curve(u_w), c * curve(u_l)


@each_pair
def f_dpo_forward_kl(*pair, beta=0.1):
  return _f_dpo(lambda u: -1 / u, *pair, beta)


@each_pair
def f_dpo_forward_kl_coefficients(*pair, beta=0.1):
  return _f_dpo_coefficients(lambda u: -1 / u, lambda u: 1 / u, *pair, beta)


def _js_slope(u):
  return math.log(2 * u / (1 + u))


@each_pair
def f_dpo_js(*pair, beta=0.1):
  return _f_dpo(_js_slope, *pair, beta)


@each_pair
def f_dpo_js_coefficients(*pair, beta=0.1):
  return _f_dpo_coefficients(_js_slope, lambda u: 1 / (1 + u), *pair, beta)


@each_pair
def f_dpo_alpha(*pair, beta=0.1, alpha=0.5):
  return _f_dpo(lambda u: (1 - u**-alpha) / alpha, *pair, beta)


@each_pair
def f_dpo_alpha_coefficients(*pair, beta=0.1, alpha=0.5):
  return _f_dpo_coefficients(
    lambda u: (1 - u**-alpha) / alpha, lambda u: u**-alpha, *pair, beta
  )


@each_pair
def r_dpo(pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, beta=0.1, alpha=0.01):
  reward_w = beta * (pi_w - ref_w) + alpha * n_w
  reward_l = beta * (pi_l - ref_l) + alpha * n_l
  return -log_sigmoid(reward_w - reward_l)


@each_pair
def r_dpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, beta=0.1, alpha=0.01
):
  h = (pi_w - ref_w) - (pi_l - ref_l)
  d = beta * sigmoid(-beta * h - alpha * (n_w - n_l))
  return d, d


@each_pair
def dpo_length_normalized(pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, beta=5.0):
  return -log_sigmoid(beta / n_w * (pi_w - ref_w) - beta / n_l * (pi_l - ref_l))


@each_pair
def dpo_length_normalized_coefficients(
  pi_w, pi_l, ref_w, ref_l, n_w, n_l, *, beta=5.0
):
  margin = (pi_w - ref_w) / n_w - (pi_l - ref_l) / n_l
  c = beta * sigmoid(-beta * margin)
  return c / n_w, c / n_l


@each_pair
def odpo(pi_w, pi_l, ref_w, ref_l, s_w, s_l, *, beta=0.1, alpha=1.0):
  if s_w <= s_l:
    return 0.0
  h = (pi_w - ref_w) - (pi_l - ref_l)
  return -log_sigmoid(beta * h - alpha * math.log(s_w - s_l))


@each_pair
def odpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, s_w, s_l, *, beta=0.1, alpha=1.0
):
  if s_w <= s_l:
    return 0.0, 0.0
  h = (pi_w - ref_w) - (pi_l - ref_l)
  d = beta * sigmoid(alpha * math.log(s_w - s_l) - beta * h)
  return d, d


@each_pair
def exo(pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=1e-3):
  q = sigmoid(beta * ((pi_w - ref_w) - (pi_l - ref_l)))
  model, human = (q, 1 - q), (1 - label_smoothing, label_smoothing)
  return sum(m * math.log(m / p) for m, p in zip(model, human))


@each_pair
def exo_coefficients(
  pi_w, pi_l, ref_w, ref_l, *, beta=0.1, label_smoothing=1e-3
):
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l))
  target = math.log((1 - label_smoothing) / label_smoothing)
  d = beta * sigmoid(z) * sigmoid(-z) * (target - z)
  return d, d


@each_pair
def discopop(pi_w, pi_l, ref_w, ref_l, *, beta=0.05, tau=0.05):
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l))
  m = sigmoid(z / tau)
  return (1 - m) * -log_sigmoid(z) + m * math.exp(-z)


@each_pair
def discopop_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.05, tau=0.05):
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l))
  m, complement = sigmoid(z / tau), sigmoid(-z / tau)
  gate = m * complement / tau * (math.exp(-z) + log_sigmoid(z))
  d = beta * (complement * sigmoid(-z) + m * math.exp(-z) - gate)
  return d, d


@each_pair
def nca(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  noise = sum(log_sigmoid(-q) / 2 for q in (q_w, q_l))
  return -log_sigmoid(q_w) - noise


@each_pair
def nca_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  return beta * (1 - 1.5 * sigmoid(q_w)), beta * sigmoid(q_l) / 2


@each_pair
def apo_zero(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  return 1 - sigmoid(beta * (pi_w - ref_w)) + sigmoid(beta * (pi_l - ref_l))


def _bell(z):
  return sigmoid(z) * sigmoid(-z)


@each_pair
def apo_zero_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  return beta * _bell(q_w), beta * _bell(q_l)


@each_pair
def apo_down(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  return sigmoid(q_w) + 1 - sigmoid(q_w - q_l)


@each_pair
def apo_down_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  q_w, q_l = beta * (pi_w - ref_w), beta * (pi_l - ref_l)
  return beta * (_bell(q_w - q_l) - _bell(q_w)), beta * _bell(q_w - q_l)


@each_pair
def sppo(pi_w, pi_l, ref_w, ref_l, *, beta=1e-3):
  won = (pi_w - ref_w - 1 / beta * (1 - 0.5)) ** 2
  lost = (pi_l - ref_l - 1 / beta * (0 - 0.5)) ** 2
  return won + lost


@each_pair
def sppo_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=1e-3):
  target = 1 / (2 * beta)
  return 2 * (target - (pi_w - ref_w)), 2 * (pi_l - ref_l + target)


@each_pair
def sppo_soft(pi_w, pi_l, ref_w, ref_l, preference, *, beta=1e-3):
  first = (pi_w - ref_w - 1 / beta * (preference - 0.5)) ** 2
  second = (pi_l - ref_l - 1 / beta * (1 - preference - 0.5)) ** 2
  return first + second


@each_pair
def sppo_soft_coefficients(pi_w, pi_l, ref_w, ref_l, preference, *, beta=1e-3):
  target = (preference - 0.5) / beta
  return 2 * (target - (pi_w - ref_w)), 2 * (pi_l - ref_l + target)


@each_pair
def slic_ratio(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  return max(0.0, 1 - beta * ((pi_w - ref_w) - (pi_l - ref_l)))


@each_pair
def slic_ratio_coefficients(pi_w, pi_l, ref_w, ref_l, *, beta=0.1):
  d = beta if beta * ((pi_w - ref_w) - (pi_l - ref_l)) < 1 else 0.0
  return d, d


@each_pair
def alpha_po(pi_w, pi_l, n_w, n_l, *, beta=2.0, gamma=0.5, alpha=0.25):
  p_w, p_l = math.exp(pi_w / n_w), math.exp(pi_l / n_l)
  reward = lambda p: beta * (1 - p**-alpha) / alpha
  return -log_sigmoid(reward(p_w) - reward(p_l) - gamma)


@each_pair
def alpha_po_coefficients(
  pi_w, pi_l, n_w, n_l, *, beta=2.0, gamma=0.5, alpha=0.25
):
  a_w, a_l = math.exp(-alpha * pi_w / n_w), math.exp(-alpha * pi_l / n_l)
  c = beta * sigmoid(gamma - beta * (a_l - a_w) / alpha)
  return c * a_w / n_w, c * a_l / n_l


@each_pair
def asft(pi_w, pi_l, n_w, n_l, *, lam=0.1):
  p_w, p_l = math.exp(pi_w / n_w), math.exp(pi_l / n_l)
  odds_w, odds_l = p_w / (1 - p_w), p_l / (1 - p_l)
  good, bad = log_sigmoid(math.log(odds_w)), log_sigmoid(-math.log(odds_l))
  return -math.log(p_w) - lam * (good + bad)


@each_pair
def asft_coefficients(pi_w, pi_l, n_w, n_l, *, lam=0.1):
  odds_l = 1 / (math.exp(-pi_l / n_l) - 1)
  return (1 + lam) / n_w, lam * odds_l / n_l
