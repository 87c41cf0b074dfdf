"""The enumerated game on which online algorithms are tested.

27 responses of three tokens, with the cyclic preferences of
`sequence_game.cyclic_game` and, for algorithms that need a reward, a reward
that has ties. Laws of groups of samples are computed by enumeration.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.feedback import Judge
from jalign.games import sequence_game, tables

GAME = sequence_game.cyclic_game()
V, L = GAME.vocab_size, GAME.length
N = V**L
K = 3  # responses to a prompt, where the algorithm lets a setting choose
PREFERENCES = np.asarray(GAME.preferences())
LOG_REFERENCE = np.asarray(GAME.log_reference)


def _rewards() -> np.ndarray:
  """[N] 0.4 c_1 - 0.3 c_2 + 0.5 q, in the terms of `cyclic_game`."""
  y = tables.sequences(V, L)
  counts = [(y == token).sum(-1) for token in range(V)]
  changes = (y[:, 1:] != y[:, :-1]).sum(-1)
  rewards = 0.4 * counts[1] - 0.3 * counts[2] + 0.5 * changes
  return np.round(rewards, 6)  # so that equal rewards are equal numbers


REWARDS = _rewards()
_numbers = np.random.default_rng(0)
# A policy away from the reference, where no gradient vanishes, and another one,
# which a carry keeps.
TABLE = _numbers.normal(0, 1, (N // 2, V)).astype(np.float32)
KEPT = _numbers.normal(0, 0.7, (N // 2, V)).astype(np.float32)
# A critic's value of a prefix is linear in the prefix's logits under KEPT.
CRITIC_WEIGHT, CRITIC_BIAS = np.array([0.5, -0.3, 0.2]), 0.1


def places(texts) -> np.ndarray:
  """Numbers of responses such as "0 2 1"."""
  return np.array([int(text.replace(" ", ""), V) for text in texts])


def _segments(answers) -> list[list[tuple[int, float]]]:
  """Rewards of the tokens of responses such as "0 2 1", in characters."""
  found = []
  for text in answers.texts:
    y = [int(token) for token in text.split()]
    changes = [0.0] + [0.5 * (a != b) for a, b in zip(y, y[1:])]
    rewards = [0.4 * (a == 1) - 0.3 * (a == 2) + c for a, c in zip(y, changes)]
    found.append([(2 * i + 1, r) for i, r in enumerate(rewards)])
  return found


JUDGE = Judge(
  reward=lambda answers: REWARDS[places(answers.texts)],
  preference=lambda a, b: PREFERENCES[places(a.texts), places(b.texts)],
  segments=_segments,
)


class Here(NamedTuple):
  """Policies of which the gradient isn't taken.

  Attributes:
    policy: [N] log-probs of the policy that draws.
    kept: [N] log-probs of the policy that the algorithm's carry keeps.
  """

  policy: jax.Array
  kept: jax.Array

  def mixture(self, mix_ref: float) -> jax.Array:
    """[N] log-probs of the token-level mixture with the reference."""
    return tables.token_mixture(self.policy, LOG_REFERENCE, mix_ref, V)


def mean(log_law, values) -> jax.Array:
  """Mean of values under a law of the same shape."""
  return jnp.sum(jnp.exp(log_law) * values)


@functools.cache
def groups(size: int) -> np.ndarray:
  """[N^size, size] numbers of the responses of all groups."""
  return np.indices((N,) * size).reshape(size, -1).T


def chances(log_law, size: int) -> jax.Array:
  """[N^size] probabilities of the groups of independent samples."""
  return jnp.exp(log_law[groups(size)].sum(-1))


def shares(log_law, values) -> jax.Array:
  """For each response, the mean over groups of its samples' values.

  Args:
    log_law: [N] log-probs of a sample.
    values: [N^K, K] for each group, the values of its samples, such as
      advantages.

  Returns:
    [N] the mean of (1 / K) sum_i values_i [y_i = y]. With K advantages, the
    expected gradient of -(1 / K) sum_i A_i log pi(y_i) is that of
    -sum_y shares(y) log pi(y).
  """
  size = values.shape[-1]
  weighted = chances(log_law, size)[:, None] * values / size
  return jax.ops.segment_sum(weighted.reshape(-1), groups(size).reshape(-1), N)


def law_of(log_law, size: int, first, second) -> jax.Array:
  """[N, N] law of two responses that are chosen from a group.

  Args:
    log_law: [N] log-probs of a sample.
    size: K, number of samples of a group.
    first: [N^K] place within each group of the first response.
    second: [N^K] place of the second response.
  """
  every, all_groups = np.arange(N**size), groups(size)
  pair = N * all_groups[every, first] + all_groups[every, second]
  return jax.ops.segment_sum(chances(log_law, size), pair, N**2).reshape(N, N)
