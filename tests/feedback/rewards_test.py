"""Rewards are kept beside preferences, and described."""

import jax.numpy as jnp
import numpy as np
import pytest

from jalign.feedback import (
  Assessed,
  assess,
  compare,
  from_preference,
  from_reward,
  make_answers,
  reward_statistics,
)

PROMPTS = ["p", "q"]


def _assessed(reward=None, cost=None):
  count = len(cost if reward is None else reward)
  return Assessed(make_answers(["p"] * count, ["x"] * count), reward, cost)


def test_a_reward_is_asked_once_a_response():
  calls = []
  judge = from_reward(lambda p, x: calls.append((p, x)) or len(x), scale=0.5)
  a = assess(judge, make_answers(PROMPTS, ["x", "xxx"]))
  b = assess(judge, make_answers(PROMPTS, ["", "x"]))
  found = compare(judge, a, b)
  assert calls == [("p", "x"), ("q", "xxx"), ("p", ""), ("q", "x")]
  assert a.reward.dtype == np.float64
  np.testing.assert_allclose(found, 1 / (1 + np.exp([-0.5, -1.0])), rtol=1e-6)
  first = compare(judge, a.take([1, 0]), b.take([1, 0]))
  np.testing.assert_array_equal(first, found[::-1])


def test_a_preference_sees_the_texts():
  judge = from_preference(lambda p, a, b: 0.9 if a > b else 0.1)
  a = assess(judge, make_answers(PROMPTS, ["x", "a"]))
  b = assess(judge, make_answers(PROMPTS, ["b", "b"]))
  assert a.reward is None and len(a) == 2
  np.testing.assert_allclose(compare(judge, a, b), [0.9, 0.1])
  assert reward_statistics(a, [0, 1]) == {}


def test_spread_is_over_samples_and_within_prompts():
  rewards = np.array([1.0, 3.0, 11.0, 13.0])
  found = reward_statistics(_assessed(rewards), [0, 0, 1, 1])
  assert found == pytest.approx(
    {
      "reward_mean": 7.0,
      "reward_std": np.sqrt((36 + 16 + 16 + 36) / 3),
      "reward_std_within_prompt": np.sqrt(2.0),
    }
  )
  alone = reward_statistics(_assessed(rewards), [0, 1, 2, 3])
  assert list(alone) == ["reward_mean", "reward_std"]
  single = _assessed(rewards[:1])
  assert reward_statistics(single, [0]) == {"reward_mean": 1.0}
  mixed = reward_statistics(_assessed(rewards), [0, 0, 0, 1])
  assert "reward_std_within_prompt" not in mixed  # a prompt of one response
  both = reward_statistics(
    _assessed(jnp.asarray(rewards), -2 * rewards), [0, 0, 1, 1]
  )
  assert both == pytest.approx(
    found
    | {
      name.replace("reward", "cost"): (-2 if "mean" in name else 2) * value
      for name, value in found.items()
    }
  )
