"""Likelihood losses on single responses."""

from jalign.losses._arrays import per_token, same_floats
from jalign.types import Array


def sft(logps: Array) -> Array:
  """Supervised fine-tuning: the response's negative log-likelihood.

  l = -log pi(y | x), summed over the response

  Its CATALOGUE row divides by scored tokens, so a batch's loss is the mean
  over its tokens, whatever the lengths.

  Ouyang et al. 2022, "Training language models to follow instructions with
  human feedback", arXiv:2203.02155, section 3.5.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.

  Returns:
    [B] float32 losses, not reduced.
  """
  return -same_floats(logps)[0]


def sft_sum(logps: Array) -> Array:
  """Negative log-likelihood of each response, as a mean over responses.

  l = -log pi(y | x), summed over the response

  The values of `sft`, divided by examples: long responses weigh more.

  Ouyang et al. 2022, arXiv:2203.02155, section 3.5 (the reduction is ours).

  Args:
    logps: [B] summed response log-probs (nats) under the policy.

  Returns:
    [B] float32 losses, not reduced.
  """
  return sft(logps)


def sft_avg(logps: Array, lengths: Array) -> Array:
  """Negative log-likelihood per token of each response.

  l = -log pi(y | x) / |y|

  Every response weighs the same, whatever its length.

  Ouyang et al. 2022, arXiv:2203.02155, section 3.5 (the reduction is ours).

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    lengths: [B] scored tokens.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, lengths = same_floats(logps, lengths)
  return -per_token(logps, lengths)
