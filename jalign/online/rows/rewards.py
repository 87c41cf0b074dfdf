"""Algorithms that learn from rewards of whole responses, or of segments.

Log-probs are sums over a response. Unless a row says so, samples are the
policy's own: temperature 1, no truncation.
"""

import jax.numpy as jnp
import numpy as np

from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged, picked
from jalign.online.carries import ITERATE, ITERATED
from jalign.online.draws import GREEDY, POLICY, REFERENCE
from jalign.online.judging import Needs
from jalign.online.rows import distributional
from jalign.online.rows.baselines import running_mean
from jalign.online.rows.penalties import (
  by_row,
  check_number,
  check_samples,
  log_ratios,
  mean_of,
  penalised,
  returns_of_rewards,
  returns_of_tokens,
)
from jalign.sharding import fetch
from jalign.types import (
  Array,
  ListBatch,
  PairBatch,
  RolloutBatch,
  SequenceBatch,
)

_REWARD = Needs(reward=True)


# ------------------------------------------------- policy gradients of samples


def after_each_token(judged: Judged, *, beta: float = 0.05) -> SequenceBatch:
  """All responses, with what follows each token less the baseline.

  What follows a token is the reward less beta times the log-ratios of the token
  and of those after it, whose expected gradient is that of E r - beta KL. The
  baseline is the mean over earlier rounds.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: weight of the KL to the reference, >= 0.

  Raises:
    UserError: beta is out of range.
  """
  check_number("beta", beta, 0, least=True)
  assert judged.rewards is not None  # the row needs rewards
  returns = returns_of_rewards(
    judged.old_token_logps,
    judged.ref_token_logps,
    judged.rewards.reshape(-1).astype(np.float32),
    judged.mask,
    beta=float(beta),
  )
  return _less_baseline(judged, returns, judged.rewards.shape[1])


def after_each_segment(judged: Judged, *, beta: float = 0.05) -> SequenceBatch:
  """As `after_each_token`, with rewards of segments in place of one reward."""
  check_number("beta", beta, 0, least=True)
  assert judged.token_rewards is not None  # the row needs segments
  returns = returns_of_tokens(
    judged.old_token_logps,
    judged.ref_token_logps,
    judged.token_rewards,
    judged.mask,
    beta=float(beta),
  )
  return _less_baseline(judged, returns, len(returns) // len(judged.weights))


def _less_baseline(judged: Judged, returns: Array, rows: int) -> SequenceBatch:
  return SequenceBatch(
    judged.rollout.sequences,
    jnp.asarray(by_row(judged, rows)),
    advantages=returns - judged.carry["mean"],
  )


def mean_return(judged: Judged, *, beta: float = 0.05) -> dict[str, float]:
  """The mean reward less beta times the log-ratio."""
  return {"return_mean": mean_of(judged, penalised(judged, beta))}


def mean_segment_return(
  judged: Judged, *, beta: float = 0.05
) -> dict[str, float]:
  """The mean sum of segments' rewards, less beta times the log-ratio."""
  assert judged.token_rewards is not None  # the row needs segments
  sums = fetch(jnp.sum(judged.token_rewards, -1)).astype(np.float64)
  sums = sums.reshape(len(judged.weights), -1)
  returns = sums - beta * log_ratios(judged)
  return {"return_mean": mean_of(judged, returns)}


def penalised_lists(judged: Judged, *, beta: float = 0.05) -> ListBatch:
  """All responses to a prompt, with rewards less beta log-ratios as scores.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: weight of the KL to the reference, >= 0; TRL's default.

  Raises:
    UserError: beta is out of range, or there is a single response.
  """
  scores = penalised(judged, beta)
  check_samples(
    scores.shape[1], 2, "a response's baseline is the mean of the others"
  )
  return ListBatch(
    judged.rollout.sequences,
    jnp.asarray(judged.weights),
    jnp.asarray(scores, jnp.float32),
    jnp.ones(scores.shape, bool),
  )


def against_greedy(judged: Judged, *, beta: float = 0.05) -> SequenceBatch:
  """The sampled responses, each with the reward of the greedy response.

  The greedy response is the last draw; its reward has no penalty.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: weight of the KL to the reference, >= 0; the authors' code has 0.05.

  Raises:
    UserError: beta is out of range, or nothing is sampled.
  """
  scores = penalised(judged, beta)
  assert judged.rewards is not None
  size = scores.shape[1]
  check_samples(size - 1, 1, "beside the greedy response there is none")
  greedy = np.repeat(judged.rewards[:, -1], size - 1)
  sampled = np.tile(np.arange(size - 1), (len(judged.weights), 1))
  return SequenceBatch(
    picked(judged.rollout.sequences, sampled, size),
    jnp.asarray(by_row(judged, size - 1)),
    rewards=jnp.asarray(scores[:, :-1].reshape(-1), jnp.float32),
    greedy_rewards=jnp.asarray(greedy, jnp.float32),
  )


def recorded_groups(judged: Judged) -> RolloutBatch:
  """All responses to a prompt, with rewards and recorded log-probs.

  The old log-probs are the policy's own, without temperature and truncation.
  The reference's are recorded where the row has it score responses.

  Raises:
    UserError: there is a single response.
  """
  assert judged.rewards is not None  # the rows need rewards
  rewards = judged.rewards
  check_samples(
    rewards.shape[1], 2, "a reward counts against the mean of its group"
  )
  return RolloutBatch(
    judged.rollout.sequences,
    jnp.asarray(judged.weights),
    jnp.asarray(rewards, jnp.float32),
    jnp.ones(rewards.shape, bool),
    judged.old_token_logps,
    ref_token_logps=judged.logps.get("reference"),
  )


def two_by_two(judged: Judged, *, beta: float = 0.05) -> PairBatch:
  """Pairs of neighbouring responses, unordered, with scores and old log-probs.

  A score is the reward less beta times the log-ratio. "Chosen" is the first
  response of a pair, not the better one.

  Args:
    judged: responses with rewards and the reference's log-probs.
    beta: weight of the KL to the reference, >= 0.

  Raises:
    UserError: beta is out of range, or the number of responses is odd.
  """
  scores = penalised(judged, beta)
  size = scores.shape[1]
  check_samples(size, 2, "they are compared in pairs", even=True)
  first, second = scores.reshape(-1, 2).T
  return PairBatch(
    judged.rollout.sequences,
    jnp.asarray(by_row(judged, size // 2)),
    chosen_scores=jnp.asarray(first, jnp.float32),
    rejected_scores=jnp.asarray(second, jnp.float32),
    old_logps=jnp.sum(judged.old_token_logps, -1),
  )


# --------------------------------------------------- imitation of the best of K


def best_responses(judged: Judged) -> SequenceBatch:
  """The response of highest reward to each prompt; of equal ones the first.

  Raises:
    UserError: there is a single response.
  """
  assert judged.rewards is not None  # the rows need rewards
  size = judged.rewards.shape[1]
  check_samples(size, 2, "the best of them is imitated")
  best = judged.rewards.argmax(1)
  return SequenceBatch(
    picked(judged.rollout.sequences, best[:, None], size),
    jnp.asarray(judged.weights),
    rewards=jnp.asarray(judged.rewards.max(1), jnp.float32),
  )


def best_reward(judged: Judged) -> dict[str, float]:
  """The mean reward of the responses that are imitated."""
  assert judged.rewards is not None
  return {"best_reward_mean": mean_of(judged, judged.rewards.max(1))}


ROWS = {
  "reinforce": Algorithm(
    (POLICY,),
    _REWARD,
    after_each_token,
    "reinforce",
    "arXiv:2402.14740",
    measure=mean_return,
    scored=(REFERENCE,),
    carry=running_mean("algorithm/return_mean"),
    samples=(1, None),
    about="policy gradient, KL in the rewards, running mean as baseline",
  ),
  "reinforce_segments": Algorithm(
    (POLICY,),
    Needs(segments=True),
    after_each_segment,
    "reinforce",
    "arXiv:2306.01693",
    measure=mean_segment_return,
    scored=(REFERENCE,),
    carry=running_mean("algorithm/return_mean"),
    samples=(1, None),
    about="policy gradient with a reward for each segment of a response",
  ),
  "rloo": Algorithm(
    (POLICY,) * 4,
    _REWARD,
    penalised_lists,
    "rloo",
    "arXiv:2402.14740",
    scored=(REFERENCE,),
    samples=(2, None),
    about="policy gradient against the mean of a prompt's other samples",
  ),
  "remax": Algorithm(
    (POLICY, GREEDY),
    _REWARD,
    against_greedy,
    "remax",
    "arXiv:2310.10505",
    scored=(REFERENCE,),
    samples=(1, None),
    about="policy gradient against the greedy response's reward",
  ),
  "grpo": Algorithm(
    (POLICY,) * 4,
    _REWARD,
    recorded_groups,
    "grpo",
    "arXiv:2402.03300",
    scored=(REFERENCE,),
    samples=(2, None),
    about="clipped ratios, rewards standardised within a prompt",
  ),
  "dr_grpo": Algorithm(
    (POLICY,) * 4,
    _REWARD,
    recorded_groups,
    "dr_grpo",
    "arXiv:2503.20783",
    samples=(2, None),
    about="GRPO without division by deviations and lengths, and without KL",
  ),
  "p3o": Algorithm(
    (POLICY, POLICY),
    _REWARD,
    two_by_two,
    "p3o",
    "arXiv:2310.00212",
    scored=(REFERENCE,),
    samples=(2, None),
    about="clipped ratios of two samples, each the other's baseline",
  ),
  **distributional.ROWS,
  "raft": Algorithm(
    (ITERATE,) * 4,
    _REWARD,
    best_responses,
    "sft",
    "arXiv:2304.06767",
    measure=best_reward,
    carry=ITERATED,
    samples=(2, None),
    about="imitates the best of K samples of an iterate: expert iteration",
  ),
  "best_of_n_distill": Algorithm(
    (REFERENCE,) * 4,
    _REWARD,
    best_responses,
    "sft",
    "arXiv:2305.14387",
    measure=best_reward,
    samples=(2, None),
    about="imitates the best of K samples of the start",
  ),
}
