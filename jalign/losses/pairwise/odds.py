"""Losses on the odds of a response's mean probability."""

import jax

from jalign.losses._arrays import (
  at_most,
  check_range,
  log1mexp,
  per_token,
  same_floats,
)
from jalign.types import Array

# Upper bound on mean log-probs in the odds, so that the odds are finite.
_MAX_MEAN_LOGP = -1e-6


def _log_odds(mean_logp: Array) -> Array:
  """log(P / (1 - P)) of P = exp(mean_logp); no gradient where P is near 1."""
  z = at_most(mean_logp, _MAX_MEAN_LOGP)
  return z - log1mexp(z)


def orpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  lam: float = 0.1,
) -> Array:
  """Odds ratio preference optimisation (ORPO): likelihood plus an odds ratio.

  l = -log P_w - lam log sigmoid(log odds(P_w) - log odds(P_l)),
  P = pi(y)^(1 / |y|),  odds(P) = P / (1 - P)

  `lam` multiplies the second term and is never inside the sigmoid. The
  likelihood is the mean over the response's tokens, without the prompt's. In
  the odds, log P counts as at most -1e-6 and has no gradient above that.

  Hong, Lee and Thorne 2024, "ORPO: Monolithic Preference Optimization without
  Reference Model", arXiv:2403.07691, eq. 6 and 7.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    lam: weight of the odds-ratio term, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("lam", lam, 0, ends="[)")
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  chosen = per_token(chosen, chosen_lengths)
  rejected = per_token(rejected, rejected_lengths)
  odds = _log_odds(chosen) - _log_odds(rejected)
  return lam * jax.nn.softplus(-odds) - chosen


def asft(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  lam: float = 0.1,
) -> Array:
  """Aligned supervised fine-tuning (ASFT): each response's odds by themselves.

  l = -log P_w
      - lam (log sigmoid(log odds(P_w)) + log sigmoid(-log odds(P_l)))
    = -(1 + lam) log P_w - lam log(1 - P_l),
  P = pi(y)^(1 / |y|),  odds(P) = P / (1 - P)

  The loss is an upper bound of `orpo`. The likelihood is the mean over the
  response's tokens. In 1 - P_l, log P_l counts as at most -1e-6 and has no
  gradient above that.

  Wang et al. 2024, "ASFT: Aligned Supervised Fine-Tuning through Absolute
  Likelihood", arXiv:2409.10571.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    lam: weight of the two alignment terms, >= 0; that the default is `orpo`'s
      is our choice.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("lam", lam, 0, ends="[)")
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  chosen = per_token(chosen, chosen_lengths)
  rejected = at_most(per_token(rejected, rejected_lengths), _MAX_MEAN_LOGP)
  return -(1 + lam) * chosen - lam * log1mexp(rejected)
