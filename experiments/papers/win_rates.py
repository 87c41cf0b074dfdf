"""Win rates over a policy's own responses, and those of best-of-n."""

import numpy as np

from experiments.papers.sampling_laws import best_of_n
from experiments.papers.sequences import kl
from jalign.data import tldr_world as world


def readers(
  of: world.Attributes, beside: world.Attributes, rows: int = 8
) -> np.ndarray:
  """[posts, N] how often the readers prefer a response to one of the start's.

  Args:
    of: attributes of N responses to each post, [posts, N].
    beside: those of the start's responses, [posts, M].
    rows: posts at a time.
  """
  rater = world.mixture(list(world.GROUPS.values()), world.WEIGHTS)
  count = len(of.words)
  parts = [
    rater(
      world.Attributes(*(x[i : i + rows, :, None] for x in of)),
      world.Attributes(*(x[i : i + rows, None] for x in beside)),
    ).mean(-1)
    for i in range(0, count, rows)
  ]
  return np.concatenate(parts)


def learned(rewards: np.ndarray, beside: np.ndarray) -> np.ndarray:
  """[posts, N] win rates over the start under a reward model.

  Args:
    rewards: [posts, N] rewards.
    beside: [posts, M] rewards of the start's responses.
  """
  gaps = rewards[:, :, None] - beside[:, None]
  return (1 / (1 + np.exp(-gaps))).mean(-1)


def best_of(rewards: np.ndarray, values: np.ndarray, n: int):
  """Best-of-n by rewards, from all draws: its KL, and its mean values by post.

  The draws stand for the policy. Ties are broken by their order.

  Args:
    rewards: [posts, M] rewards of the draws.
    values: [posts, M] values of the draws.
    n: the number of draws of which the best is kept.

  Returns:
    The mean KL in nats, and [posts] values.
  """
  size = rewards.shape[1]
  law = best_of_n(np.full(size, 1 / size), n)
  order = np.argsort(rewards, axis=1, kind="stable")
  means = np.take_along_axis(values, order, 1) @ law
  return kl(law, np.full(size, 1 / size)), means
