"""Orders the responses to a prompt by a judge's preferences.

There are P prompts and K responses to each, all pairs of which the judge has
compared. For a judge of rewards, P(y > y') grows with the difference of the
rewards, so that win rates order responses as rewards do.
"""

import numpy as np

from jalign.online.arrange import Judged
from jalign.online.judging import every_pair


def samples_of(judged: Judged) -> int:
  """K, the number of responses to a prompt."""
  return len(judged.rollout.sequences.tokens) // len(judged.weights)


def preferences(judged: Judged) -> np.ndarray:
  """[P, K, K] float64 P(row's response > column's), 1/2 on the diagonal."""
  size = samples_of(judged)
  table = np.full((len(judged.weights), size, size), 0.5)
  for at, (i, j) in enumerate(every_pair(size)):
    table[:, i, j] = judged.preference[:, at]
    table[:, j, i] = 1 - table[:, i, j]
  return table


def best_and_worst(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
  """The responses with the highest and the lowest win rate over all K.

  Of responses with equal win rates, the judge's reward decides, if there is
  one; then the order of the draws.

  Returns:
    [P, 2] places of the best and of the worst response, which differ; and [P]
    P(the best > the worst).
  """
  table = preferences(judged)
  wins = table.mean(-1)
  ties = np.zeros_like(wins) if judged.rewards is None else judged.rewards
  order = np.lexsort((ties, wins), axis=-1)
  places = order[:, [-1, 0]]
  prompts = np.arange(len(places))
  return places, table[prompts, places[:, 0], places[:, 1]]
