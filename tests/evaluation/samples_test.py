"""Best-of-n, distinct-n and clustered means, computed by hand."""

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.evaluation import best_of_n, clustered_mean, distinct_n


def test_best_of_n_finds_the_highest_reward_of_each_prompt():
  rng = np.random.default_rng(0)
  rewards = rng.normal(size=(5, 6))
  flat = rewards.reshape(-1).tolist()
  prefer = lambda a, b: 1 / (1 + np.exp(np.subtract(b, a)))
  got = best_of_n(flat, 6, prefer)
  np.testing.assert_array_equal(got, rewards.argmax(1) + 6 * np.arange(5))


def test_best_of_n_is_the_borda_winner_where_preferences_run_in_a_circle():
  # r > p > s > r, and d loses to all but s, so p beats two of three.
  beats = {("r", "p"), ("p", "s"), ("s", "r")}
  beats |= {("r", "d"), ("p", "d"), ("d", "s")}
  prefer = lambda a, b: [
    0.5 if x == y else float((x, y) in beats) for x, y in zip(a, b)
  ]
  wins = {x: sum((x, y) in beats for y in "rpsd") for x in "rpsd"}
  texts = ["d", "s", "p", "r"]
  best = texts[best_of_n(texts, 4, prefer)[0]]
  assert wins[best] == max(wins.values()) and best == "p"  # before r: a tie
  assert best_of_n(["x"] * 4, 2, lambda a, b: [0.5] * 4).tolist() == [0, 2]


def test_best_of_n_wants_whole_groups():
  for texts, n in ((["a"] * 5, 2), (["a"] * 4, 1)):
    with pytest.raises(UserError, match="can't be"):
      best_of_n(texts, n, lambda a, b: [0.5] * len(a))


def test_distinct_n_counts_different_n_grams():
  texts = ["a b a b", "a b"]
  assert distinct_n(texts, 1) == pytest.approx(2 / 6)
  assert distinct_n(texts, 2) == pytest.approx(2 / 4)  # ab ba ab | ab
  assert distinct_n(["a b c"], 3) == 1
  assert np.isnan(distinct_n(["a", ""], 2))


def test_a_clustered_mean_weighs_prompts_alike():
  # Prompt x has three values, y has one.
  average = clustered_mean([1.0, 2.0, 3.0, 6.0], ["x", "x", "x", "y"])
  assert average.mean == 4.0
  assert average.standard_error == pytest.approx(
    np.std([2, 6], ddof=1) / 2**0.5
  )
  low, high = average.interval
  assert (low + high) / 2 == pytest.approx(4)
  assert high - low == pytest.approx(2 * 1.959964 * average.standard_error)
