"""Likelihood losses on single responses."""

from jalign.losses._arrays import per_token, same_floats
from jalign.types import Array


def sft(logps: Array) -> Array:
  """Supervised fine-tuning: the response's negative log-likelihood.

  l = -log pi(y | x), summed over the response

  A batch's sum is divided by scored tokens, so that the batch's loss is the
  mean over all its scored tokens, whatever the responses' lengths.

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

  The values are those of `sft`, but a batch's sum is divided by examples, so
  that long responses weigh more.

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
    lengths: [B] numbers of scored tokens of the responses.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, lengths = same_floats(logps, lengths)
  return -per_token(logps, lengths)
