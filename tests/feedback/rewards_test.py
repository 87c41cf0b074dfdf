"""Rewards are kept beside preferences, and described."""

import numpy as np
import pytest

from jalign.feedback import (
  assess,
  compare,
  from_preference,
  from_reward,
  reward_statistics,
)

PROMPTS = ["p", "q"]


def test_a_reward_is_asked_once_and_compared_like_the_annotator():
  calls = []
  judge = from_reward(lambda p, x: calls.append((p, x)) or len(x), scale=0.5)
  a, b = assess(judge, PROMPTS, ["x", "xxx"]), assess(judge, PROMPTS, ["", "x"])
  found = compare(judge, PROMPTS, a, b)
  assert calls == [("p", "x"), ("q", "xxx"), ("p", ""), ("q", "x")]
  np.testing.assert_array_equal(found, judge(PROMPTS, ["x", "xxx"], ["", "x"]))
  np.testing.assert_allclose(found, 1 / (1 + np.exp([-0.5, -1.0])), rtol=1e-6)


def test_a_preference_sees_the_texts():
  judge = from_preference(lambda p, a, b: 0.9 if a > b else 0.1)
  a, b = assess(judge, PROMPTS, ["x", "a"]), assess(judge, PROMPTS, ["b", "b"])
  assert a == ["x", "a"]
  np.testing.assert_allclose(compare(judge, PROMPTS, a, b), [0.9, 0.1])
  assert reward_statistics(a, [0, 1]) == {}


def test_spread_is_over_samples_and_within_prompts():
  rewards = np.array([1.0, 3.0, 11.0, 13.0])
  found = reward_statistics(rewards, [0, 0, 1, 1])
  assert found == pytest.approx(
    {
      "reward_mean": 7.0,
      "reward_std": np.sqrt((36 + 16 + 16 + 36) / 3),
      "reward_std_within_prompt": np.sqrt(2.0),
    }
  )
  alone = reward_statistics(rewards, [0, 1, 2, 3])
  assert list(alone) == ["reward_mean", "reward_std"]
  assert reward_statistics(rewards[:1], [0]) == {"reward_mean": 1.0}
  mixed = reward_statistics(rewards, [0, 0, 0, 1])  # a prompt of one response
  assert "reward_std_within_prompt" not in mixed
