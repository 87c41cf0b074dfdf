"""Annotators: Bradley-Terry in float64, and nothing but probabilities."""

import math

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import from_batch, from_preference, from_reward

PROMPTS = ["p", "q", "r", "s"]
REWARDS = {"a": 1.0, "b": -0.5, "far": 40.0, "near": 1.0 + 1e-9}


def _reward(prompt, response):
  return REWARDS[response] + {"p": 0, "q": 1, "r": 2, "s": 1e6}[prompt]


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_a_reward_gives_bradley_terry_preferences(scale):
  a, b = ["a", "b", "far", "a"], ["b", "a", "b", "a"]
  got = from_reward(_reward, scale=scale)(PROMPTS, a, b)
  assert got.dtype == np.float32 and got.shape == (4,)
  want = [
    1 / (1 + math.exp(-scale * (REWARDS[x] - REWARDS[y]))) for x, y in zip(a, b)
  ]
  np.testing.assert_allclose(got, want, rtol=1e-6)
  other = from_reward(_reward, scale=scale)(PROMPTS, b, a)
  np.testing.assert_allclose(got + other, np.ones(4), atol=1e-7)
  assert got[3] == 0.5


def test_the_difference_is_taken_in_float64():
  """In float32 the offset of this prompt would swallow the margin."""
  reward = lambda prompt, response: 1e9 + REWARDS[response]
  got = from_reward(reward)(["p"], ["a"], ["b"])
  np.testing.assert_allclose(got, [1 / (1 + math.exp(-1.5))], rtol=1e-6)
  near = from_reward(lambda p, x: REWARDS[x], scale=1e9)
  np.testing.assert_allclose(
    near(["p"], ["near"], ["a"]), [1 / (1 + math.exp(-1))], rtol=1e-6
  )


def test_huge_margins_saturate_without_a_warning():
  reward = lambda prompt, response: 1e300 if response == "a" else -1e300
  got = from_reward(reward)(["p", "q"], ["a", "b"], ["b", "a"])
  np.testing.assert_array_equal(got, [1.0, 0.0])


def test_the_reward_sees_its_own_prompt():
  seen = []
  reward = lambda prompt, response: seen.append((prompt, response)) or 0.0
  from_reward(reward)(["p", "q"], ["a", "b"], ["c", "d"])
  assert seen == [("p", "a"), ("q", "b"), ("p", "c"), ("q", "d")]


def test_a_preference_may_be_intransitive():
  beats = {("r", "s"), ("s", "p"), ("p", "r")}
  annotate = from_preference(
    lambda prompt, a, b: 0.5 if a == b else float((a, b) in beats)
  )
  got = annotate(["x"] * 4, ["r", "s", "p", "r"], ["s", "p", "r", "p"])
  np.testing.assert_array_equal(got, [1, 1, 1, 0])


@pytest.mark.parametrize("bad", [math.nan, -0.01, 1.01, math.inf])
def test_what_is_no_probability_is_refused(bad):
  annotate = from_preference(lambda prompt, a, b: bad if b == "bad" else 0.5)
  with pytest.raises(UserError, match=r"^annotator: gave .* for pair 1 "):
    annotate(["p", "q"], ["a", "a"], ["b", "bad"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_no_numbers_are_refused(bad):
  annotate = from_reward(lambda prompt, response: bad)
  with pytest.raises(
    UserError, match=r"for response 0 .*Rewards must be finite"
  ):
    annotate(["p"], ["a"], ["b"])


def test_rewards_are_kept_and_compared_without_another_call():
  calls = []
  judge = from_reward(lambda p, x: calls.append(x) or REWARDS[x], scale=2.0)
  a, b = judge.rewards("pq", ["a", "far"]), judge.rewards("pq", ["b", "a"])
  np.testing.assert_array_equal(a, [1.0, 40.0])
  assert a.dtype == np.float64
  np.testing.assert_array_equal(
    judge.compare(a, b), judge("pq", ["a", "far"], ["b", "a"])
  )
  assert calls == ["a", "far", "b", "a"] * 2


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_must_be_positive(scale):
  with pytest.raises(UserError, match="annotator.scale"):
    from_reward(_reward, scale=scale)


def test_a_batch_function_is_checked_like_the_others():
  got = from_batch(lambda p, a, b: np.linspace(0, 1, len(p)))(
    PROMPTS, "abcd", "efgh"
  )
  np.testing.assert_allclose(got, [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
  assert got.dtype == np.float32
  for bad in (lambda p, a, b: [0.5], lambda p, a, b: [0.5, 1.2, 0, 1]):
    with pytest.raises(UserError, match="annotator"):
      from_batch(bad)(PROMPTS, "abcd", "efgh")
