"""Losses on pairs with a third text: a gold answer, an old answer, a reason."""

import jax

from jalign.losses._arrays import (
  check_range,
  log_ratios,
  per_token,
  same_floats,
)
from jalign.types import Array


def tpo(
  chosen_logps: Array,
  rejected_logps: Array,
  gold_logps: Array,
  *,
  beta: float = 0.2,
  alpha: float = 0.9,
) -> Array:
  """Triple preference optimisation: a pair and a gold response's likelihood.

  l = -log sigmoid(beta (log pi(y_w) - log pi(y_l))) - alpha log pi(y_gold)

  There is no reference model: the paper calls the gold response the reference.
  All log-probs are sums; TRL and the authors' code take the mean over tokens in
  the gold term. With y_gold = y_w this is CPO with a summed likelihood.

  Saeidi et al. 2024, "Triple Preference Optimization: Achieving Better
  Alignment using a Single Step Optimization", arXiv:2405.16681.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    gold_logps: [B] the same for the gold responses.
    beta: scale of the margin, > 0. Sources differ on (beta, alpha): the
      defaults are those of one state of the authors' code, a later
      configuration of theirs has (0.1, 0.05), their recorded runs have
      (0.01, 1) or (0.01, 0.05), and TRL has (0.01, 1).
    alpha: weight of the gold likelihood, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  chosen, rejected, gold = same_floats(chosen_logps, rejected_logps, gold_logps)
  return jax.nn.softplus(beta * (rejected - chosen)) - alpha * gold


def tpo_l(
  chosen_logps: Array,
  rejected_logps: Array,
  gold_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 0.01,
  alpha: float = 1.0,
  gamma: float = 0.5,
) -> Array:
  """Triple preference optimisation with a margin per token, as in SimPO.

  l = -log sigmoid(beta (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma)
  - alpha log pi(y_gold)

  gamma isn't multiplied by beta: the authors' code and TRL divide gamma by beta
  and multiply by beta again. The gold term is a sum here, as in `tpo`; the
  authors' code and TRL take its mean over the batch's tokens. The defaults are
  those of TRL and of the authors' smallest run; gamma is 0.3 to 10 in the
  authors' other runs.

  Saeidi et al. 2024, "Triple Preference Optimization: Achieving Better
  Alignment using a Single Step Optimization", arXiv:2405.16681.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    gold_logps: [B] the same for the gold responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: scale of the margin per token, > 0.
    alpha: weight of the gold likelihood, >= 0.
    gamma: margin between chosen and rejected that is asked for, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  check_range("gamma", gamma, 0, ends="[)")
  chosen, rejected, gold, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, gold_logps, chosen_lengths, rejected_lengths
  )
  margin = per_token(chosen, chosen_lengths)
  margin -= per_token(rejected, rejected_lengths)
  return jax.nn.softplus(gamma - beta * margin) - alpha * gold


def selm(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  explore_logps: Array,
  ref_explore_logps: Array,
  *,
  beta: float = 0.01,
  alpha: float = 0.001,
) -> Array:
  """Self-exploring DPO: moves away from the previous iterate's own response.

  l = -log sigmoid(beta h) + alpha beta (log pi/ref)(y_0),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  y_0 is the previous iterate's greedy response. The loss lowers its log-prob,
  so that probability goes to texts not yet seen, whose reward is unknown. The
  weight alpha beta is from the paper's equation; the paper's algorithm prints
  alpha without beta. A step of the method also re-ranks y_0 with the pair and
  takes the previous iterate as the reference; that isn't part of this loss.

  Zhang et al. 2024, "Self-Exploring Language Models: Active Preference
  Elicitation for Online Alignment", arXiv:2405.19332.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    explore_logps: [B] summed log-probs (nats) of the previous iterate's
      responses under the policy.
    ref_explore_logps: [B] explore_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    alpha: weight of the exploration, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  up, down, explore, ref_explore = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    explore_logps,
    ref_explore_logps,
  )
  old = explore - jax.lax.stop_gradient(ref_explore)
  return jax.nn.softplus(beta * (down - up)) + alpha * beta * old


def rationale_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  rationale_logps: Array,
  *,
  beta: float = 0.1,
  gamma: float = 0.1,
) -> Array:
  """DPO plus the likelihood of the rationale, the reason for the preference.

  l = -log sigmoid(beta h) - gamma log pi(rationale | x, y_w > y_l),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  The rationale is conditioned on the prompt and the labelled pair. This is the
  paper's form; the authors' code has `rationale_dpo_logsigmoid`, which is
  larger by at most log 2. The default of gamma is that of the authors' code.

  Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct
  Preference Alignment", arXiv:2407.14477.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    rationale_logps: [B] summed log-probs of the rationales under the policy.
    beta: strength of the KL regularisation, > 0.
    gamma: weight of the rationale, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("gamma", gamma, 0, ends="[)")
  up, down, rationale = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    rationale_logps,
  )
  return jax.nn.softplus(beta * (down - up)) - gamma * rationale


def rationale_dpo_logsigmoid(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  rationale_logps: Array,
  *,
  beta: float = 0.1,
  gamma: float = 0.1,
) -> Array:
  """DPO plus -log sigmoid of the rationale's log-prob, as in released code.

  l = -log sigmoid(beta h) - log sigmoid(gamma v),
  v = log pi(rationale | x, y_w > y_l),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  This is the form of the authors' code. The loss is larger than `rationale_dpo`
  by log(1 + pi(rationale)^gamma), which is at most log 2 and vanishes for long,
  unlikely rationales. gamma = 0 gives DPO plus log 2.

  Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct
  Preference Alignment", arXiv:2407.14477.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    rationale_logps: [B] summed log-probs of the rationales under the policy.
    beta: strength of the KL regularisation, > 0.
    gamma: scale of the rationale's log-prob, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("gamma", gamma, 0, ends="[)")
  up, down, rationale = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    rationale_logps,
  )
  reason = jax.nn.softplus(-gamma * rationale)
  return jax.nn.softplus(beta * (down - up)) + reason
