"""Pairs with a third text beside them: a gold answer, an old one, a reason."""

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
  """Triple preference optimisation: a pair, and the likelihood of a gold text.

  l = -log sigmoid(beta (log pi(y_w) - log pi(y_l))) - alpha log pi(y_gold)

  No reference model: what the method calls its reference is the gold response.
  All log-probs are sums; TRL and the authors' code take the gold term's mean
  over tokens. With y_gold = y_w this is CPO with a summed likelihood.

  Saeidi et al. 2024, "Triple Preference Optimization: Achieving Better
  Alignment using a Single Step Optimization", arXiv:2405.16681.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    gold_logps: [B] the same for the gold responses.
    beta: scale of the margin, > 0. Sources differ: the default and alpha's
      are those of one state of the authors' code, whose later configuration
      has 0.1 and 0.05; its recorded runs have 0.01 with 1 or 0.05, TRL 0.01
      with 1.
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

  gamma is outside beta: the authors' code and TRL divide gamma by beta and
  multiply by beta again. The gold term is a sum here as in `tpo`; both take its
  mean over the batch's tokens. The defaults are TRL's and those of the authors'
  smallest run; gamma is 0.3 to 10 in their others.

  Saeidi et al. 2024, "Triple Preference Optimization: Achieving Better
  Alignment using a Single Step Optimization", arXiv:2405.16681.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    gold_logps: [B] the same for the gold responses.
    chosen_lengths: [B] scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: scale of the margin per token, > 0.
    alpha: weight of the gold likelihood, >= 0.
    gamma: margin that the chosen response is asked for, >= 0.

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
  """Self-exploring DPO: away from what the last model would have said.

  l = -log sigmoid(beta h) + alpha beta (log pi/ref)(y_0),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  y_0 is the previous iterate's greedy response, and its log-prob is lowered:
  what it loses goes to texts not yet seen, whose reward is unknown. The weight
  is the paper's equation's; its algorithm prints alpha without beta. A step of
  the method re-ranks y_0 with the pair, and takes the previous iterate for the
  reference; that is the loop's part.

  Zhang et al. 2024, "Self-Exploring Language Models: Active Preference
  Elicitation for Online Alignment", arXiv:2405.19332.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
    explore_logps: [B] of the previous iterate's responses, under the policy.
    ref_explore_logps: [B] of the same under the reference; a constant.
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
  """DPO, and the likelihood of the reason for the preference.

  l = -log sigmoid(beta h) - gamma log pi(rationale | x, y_w > y_l),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  The rationale is conditioned on the prompt and the labelled pair. This is the
  paper's form; for its code's see `rationale_dpo_logsigmoid`, less than log 2
  above. gamma is the code's.

  Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct
  Preference Alignment", arXiv:2407.14477.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
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
  """DPO, and the log-sigmoid of a rationale's log-prob, as released.

  l = -log sigmoid(beta h) - log sigmoid(gamma v),
  v = log pi(rationale | x, y_w > y_l),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  The form of the authors' code. For long rationales it is `rationale_dpo`;
  above it by log(1 + pi(rationale)^gamma), at most log 2, everywhere. gamma = 0
  is DPO plus log 2.

  Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct
  Preference Alignment", arXiv:2407.14477.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
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
