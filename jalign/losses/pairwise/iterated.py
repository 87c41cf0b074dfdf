"""Losses of methods that draw pairs anew: from an iterate, or from two models.

The order of a pair says who drew which response, not which response is better:
the label is a preference probability.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses._arrays import check_range, same_floats
from jalign.losses.pairwise.sigmoid import dpo_soft
from jalign.types import Array


def inpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  old_chosen_logps: Array,
  old_rejected_logps: Array,
  preference: Array,
  *,
  tau: float = 0.1,
  eta: float = 0.5,
) -> Array:
  """Iterative Nash policy optimisation: a step of mirror descent, by pairs.

  l = p (h - 1 / (2 eta))^2 + (1 - p) (h + 1 / (2 eta))^2,
  h = m(pi) - (tau / eta) m(ref) - (1 - tau / eta) m(old),
  m(q) = log q(y_w) - log q(y_l),  p = P(y_w > y_l)

  `old` is the iterate that has drawn both responses. On all pairs of samples
  from `old`, the minimiser is the mirror-descent step
  pi ~ old^(1 - tau / eta) ref^(tau / eta) exp(P(. > old) / eta): eta is an
  inverse step size. The paper's labels are outcomes, which p = 1 or p = 0
  gives; the loss is its expectation over outcomes. Gradients do not flow into
  the preference.

  Zhang et al. 2024, "Iterative Nash Policy Optimization: Aligning LLMs with
  General Preferences via No-Regret Learning", arXiv:2407.00617. The defaults
  are our choice.

  Args:
    chosen_logps: [B] summed log-probs (nats) of the first responses under the
      policy.
    rejected_logps: [B] the same for the second responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    old_chosen_logps: [B] chosen_logps under the iterate; a constant.
    old_rejected_logps: [B] rejected_logps under the iterate; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    tau: strength of the KL to the reference, >= 0, relative to win rates.
    eta: inverse step size, > 0 and above tau.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range, or eta isn't above tau.
  """
  check_range("tau", tau, 0, ends="[)")
  check_range("eta", eta, 0)
  _check_step(tau, eta)
  chosen, rejected, *fixed, preference = same_floats(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    old_chosen_logps,
    old_rejected_logps,
    preference,
  )
  preference = jax.lax.stop_gradient(preference)
  reference = jax.lax.stop_gradient(fixed[0] - fixed[1])
  old = jax.lax.stop_gradient(fixed[2] - fixed[3])
  pull = tau / eta
  h = chosen - rejected - pull * reference - (1 - pull) * old
  target = 1 / (2 * eta)
  won, lost = jnp.square(h - target), jnp.square(h + target)
  return preference * won + (1 - preference) * lost


def _check_step(tau, eta) -> None:
  """Refuses eta <= tau; a jax array is not read."""
  if any(isinstance(x, jax.Array | np.ndarray) for x in (tau, eta)):
    return
  if eta <= tau:
    raise UserError(
      f"eta must be above tau, but eta is {eta!r} and tau is {tau!r}.",
      remedy="eta is an inverse step size: raise eta, or lower tau. With eta ="
      " tau the iterate would have no weight; ipo_soft is that loss.",
    )


def xpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1e-5,
) -> Array:
  """Exploratory preference optimisation: DPO that leaves the reference's texts.

  l = -p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h) + alpha log pi(y_l),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  p = P(y_w > y_l)

  y_w is the policy's sample and y_l the reference's, whichever is better. The
  last term takes probability from texts that the reference draws, and so leaves
  more for texts not yet seen. The paper's labels are outcomes, which p = 1 or
  p = 0 gives; the paper sums the loss over all rounds so far. Gradients do not
  flow into the preference.

  Xie et al. 2024, "Exploratory Preference Optimization: Harnessing Implicit
  Q*-Approximation for Sample-Efficient RLHF", arXiv:2405.21046. The defaults
  are TRL's.

  Args:
    chosen_logps: [B] summed log-probs (nats) of the policy's responses under
      the policy.
    rejected_logps: [B] the same for the reference's responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    preference: [B] P(the policy's response > the reference's) in [0, 1]; a
      constant.
    beta: strength of the KL regularisation, > 0.
    alpha: weight of the exploration, >= 0; at 0 the loss is `dpo_soft`.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  arrays = same_floats(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  return dpo_soft(*arrays, beta=beta) + alpha * arrays[1]
