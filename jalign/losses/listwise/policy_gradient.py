"""Policy gradients on several samples of each prompt."""

from jalign.losses._arrays import zero_where_invalid
from jalign.losses.advantages import leave_one_out_advantages
from jalign.types import Array


def rloo(logps: Array, scores: Array, valid: Array) -> Array:
  """REINFORCE with the other samples' mean as the baseline.

  l = -(1 / n) sum_i A_i log pi(y_i),
  A_i = r_i - mean over j != i of r_j,  r = score

  A surrogate: with y_1 ... y_n drawn from the policy its gradient is an
  unbiased one of -E[r]; its value means nothing. Advantages are constants. A
  penalty on the KL goes into the scores. Prompts of fewer than two valid
  samples have loss 0.

  Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization
  for Learning from Human Feedback in LLMs", arXiv:2402.14740.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    scores: [B, K] rewards of the samples; constants.
    valid: [B, K] bool, False where a prompt has fewer than K samples.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  advantages = leave_one_out_advantages(scores, valid)
  valid, logps, advantages = zero_where_invalid(valid, logps, advantages)
  size = valid.sum(-1).astype(logps.dtype)
  return -(advantages * logps).sum(-1) / size.clip(1)
