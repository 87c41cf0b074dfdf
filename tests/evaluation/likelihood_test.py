"""Accuracies of log-probs on pairs, by hand."""

import numpy as np
import pytest

from jalign.evaluation import likelihood
from jalign.evaluation.likelihood import PairScores


def _scores(chosen, rejected, sources="abcd"):
  return PairScores(
    np.array(chosen),
    np.array(rejected),
    np.array([2.0, 4.0, 0.0, 5.0]),
    np.array([1.0, 6.0, 1.0, 1.0]),
    tuple(sources),
  )


POLICY = _scores([-4.0, -8.0, 0.0, -9.0], [-5.0, -9.0, -1.0, -9.0])
START = _scores([-3.0, -9.0, -1.0, -9.0], [-6.0, -9.0, -1.0, -9.0])


def test_the_likelier_response_is_ranked_first():
  got = likelihood.ranking_accuracy(POLICY)
  assert got.win_rate == (1 + 1 + 1 + 0.5) / 4
  # Per token: -2 over -5, -2 under -1.5, 0 over -1, and -1.8 over -9.
  got = likelihood.ranking_accuracy_per_token(POLICY)
  assert got.win_rate == (1 + 0 + 1 + 1) / 4


def test_a_reward_is_what_a_response_gained_over_the_start():
  # Margins: -1 - 1, 1 - 0, 1 - 0, 0.
  got = likelihood.reward_accuracy(POLICY, START)
  assert got.win_rate == (0 + 1 + 1 + 0.5) / 4
  grouped = likelihood.reward_accuracy(POLICY, START, [0, 0, 0, 1])
  assert grouped.win_rate == pytest.approx((2 / 3 + 0.5) / 2)
  with pytest.raises(ValueError, match="different pairs"):
    likelihood.reward_accuracy(POLICY, START._replace(sources=tuple("abce")))
