"""Twins of the losses of methods that draw pairs anew."""

from tests.oracles.pairwise.scalars import each_pair, log_sigmoid, sigmoid


def _inpo_h(pi_w, pi_l, ref_w, ref_l, old_w, old_l, tau, eta):
  mixed_w = (tau * ref_w + (eta - tau) * old_w) / eta
  mixed_l = (tau * ref_l + (eta - tau) * old_l) / eta
  return (pi_w - mixed_w) - (pi_l - mixed_l)


@each_pair
def inpo(
  pi_w, pi_l, ref_w, ref_l, old_w, old_l, preference, *, tau=0.1, eta=0.5
):
  h = _inpo_h(pi_w, pi_l, ref_w, ref_l, old_w, old_l, tau, eta)
  outcomes = ((preference, 1.0), (1 - preference, -1.0))  # which one is better
  return sum(p * (sign * h - 1 / (2 * eta)) ** 2 for p, sign in outcomes)


@each_pair
def inpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, old_w, old_l, preference, *, tau=0.1, eta=0.5
):
  h = _inpo_h(pi_w, pi_l, ref_w, ref_l, old_w, old_l, tau, eta)
  d = 2 * ((preference - 0.5) / eta - h)
  return d, d


@each_pair
def xpo(pi_w, pi_l, ref_w, ref_l, preference, *, beta=0.1, alpha=1e-5):
  z = beta * ((pi_w - ref_w) - (pi_l - ref_l))
  label = preference * log_sigmoid(z) + (1 - preference) * log_sigmoid(-z)
  return -label + alpha * pi_l


@each_pair
def xpo_coefficients(
  pi_w, pi_l, ref_w, ref_l, preference, *, beta=0.1, alpha=1e-5
):
  d = beta * (preference - sigmoid(beta * ((pi_w - ref_w) - (pi_l - ref_l))))
  return d, d + alpha
