"""Judges: Bradley-Terry in float64; other values than numbers are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import (
  Judge,
  assess,
  compare,
  from_batch,
  from_cost,
  from_preference,
  from_reward,
  from_rewards,
  make_answers,
  on_tokens,
)
from jalign.types import Sequences
from tests.feedback.judged import judged

PROMPTS = ["p", "q", "r", "s"]
REWARDS = {"a": 1.0, "b": -0.5, "far": 40.0, "near": 1.0 + 1e-9}


def _reward(prompt, response):
  return REWARDS[response] + {"p": 0, "q": 1, "r": 2, "s": 1e6}[prompt]


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_a_reward_gives_bradley_terry_preferences(scale):
  a, b = ["a", "b", "far", "a"], ["b", "a", "b", "a"]
  judge = from_reward(_reward, scale=scale)
  got = judged(judge, PROMPTS, a, b)
  assert got.dtype == np.float32 and got.shape == (4,)
  want = [
    1 / (1 + math.exp(-scale * (REWARDS[x] - REWARDS[y]))) for x, y in zip(a, b)
  ]
  np.testing.assert_allclose(got, want, rtol=1e-6)
  other = judged(judge, PROMPTS, b, a)
  np.testing.assert_allclose(got + other, np.ones(4), atol=1e-7)
  assert got[3] == 0.5


def test_the_difference_is_taken_in_float64():
  """In float32 the offset of this prompt would swallow the margin."""
  reward = lambda prompt, response: 1e9 + REWARDS[response]
  got = judged(from_reward(reward), ["p"], ["a"], ["b"])
  np.testing.assert_allclose(got, [1 / (1 + math.exp(-1.5))], rtol=1e-6)
  near = from_reward(lambda p, x: REWARDS[x], scale=1e9)
  np.testing.assert_allclose(
    judged(near, ["p"], ["near"], ["a"]), [1 / (1 + math.exp(-1))], rtol=1e-6
  )


def test_huge_margins_saturate_without_a_warning():
  reward = lambda prompt, response: 1e300 if response == "a" else -1e300
  got = judged(from_reward(reward), ["p", "q"], ["a", "b"], ["b", "a"])
  np.testing.assert_array_equal(got, [1.0, 0.0])


def test_a_function_sees_its_own_prompt_and_the_row_if_it_asks():
  rows, sides = [{"n": 3}, {}], (["a", "b"], ["c", "d"])
  seen = []
  two = lambda prompt, response: seen.append((prompt, response)) or 0.0
  three = lambda prompt, response, row: seen.append((prompt, row)) or 0.0
  told = lambda prompt, response, row=None: seen.append(row) or 0.0
  own = lambda prompt, response, base=0.0: seen.append(base) or 0.0
  any_number = lambda *texts: seen.append(len(texts)) or 0.0
  for reward, want in (
    (two, [("p", "a"), ("q", "b"), ("p", "c"), ("q", "d")]),
    (three, [("p", {"n": 3}), ("q", {})] * 2),
    (told, [{"n": 3}, {}] * 2),
    (own, [0.0] * 4),
    (any_number, [2] * 4),
  ):
    seen.clear()
    judged(from_reward(reward), ["p", "q"], *sides, rows=rows)
    assert seen == want
  seen.clear()
  judge = from_rewards(lambda *columns: seen.append(columns) or [1.0, 2.0])
  answers = make_answers(["p", "q"], sides[0], rows)
  np.testing.assert_array_equal(assess(judge, answers).reward, [1, 2])
  assert seen == [(["p", "q"], ["a", "b"], rows)]


def test_a_cost_stands_beside_a_reward_and_compares_nothing():
  cost = from_cost(lambda prompt, response: -len(response)).cost
  judge = from_reward(lambda p, x: len(x), scale=0.5)._replace(cost=cost)
  found = assess(judge, make_answers(["p", "p"], ["xxx", "x"]))
  np.testing.assert_array_equal(found.cost, [-3, -1])
  np.testing.assert_array_equal(found.reward, [3, 1])
  np.testing.assert_allclose(
    compare(judge, found.take([0]), found.take([1])), 1 / (1 + math.exp(-1))
  )
  with pytest.raises(UserError, match="it compares nothing"):
    judged(Judge(cost=cost), ["p"], ["x"], ["y"])


def test_a_preference_stands_before_the_reward():
  judge = from_reward(lambda p, x: len(x))._replace(
    preference=from_preference(lambda p, a, b: 0.1).preference
  )
  np.testing.assert_allclose(judged(judge, ["p"], ["xxxx"], ["x"]), 0.1)
  assert assess(judge, make_answers(["p"], ["xxxx"])).reward == [4]


def test_a_preference_may_be_intransitive():
  beats = {("r", "s"), ("s", "p"), ("p", "r")}
  judge = from_preference(
    lambda prompt, a, b: 0.5 if a == b else float((a, b) in beats)
  )
  got = judged(judge, ["x"] * 4, ["r", "s", "p", "r"], ["s", "p", "r", "p"])
  np.testing.assert_array_equal(got, [1, 1, 1, 0])


@pytest.mark.parametrize("bad", [math.nan, -0.01, 1.01, math.inf])
def test_what_is_no_probability_is_refused(bad):
  judge = from_preference(lambda prompt, a, b: bad if b == "bad" else 0.5)
  with pytest.raises(UserError, match=r"^annotator: gave .* for pair 1 "):
    judged(judge, ["p", "q"], ["a", "a"], ["b", "bad"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reward", "cost"])
def test_rewards_and_costs_that_are_no_numbers_are_refused(bad, name):
  make = {"reward": from_reward, "cost": from_cost}[name]
  answers = make_answers(["p"], ["a"])
  with pytest.raises(UserError, match=f"a {name} of .* for response 0 "):
    assess(make(lambda prompt, response: bad), answers)
  with pytest.raises(UserError, match="gave None in place 0, not a number"):
    assess(make(lambda prompt, response: None), answers)
  whole = Judge(**{name: lambda answers: jnp.full((1,), bad)})
  found = getattr(assess(whole, answers), name)
  assert isinstance(found, jax.Array)  # it hasn't been read yet
  if name == "reward":
    with pytest.raises(UserError, match="Rewards must be finite"):
      judged(whole, ["p"], ["a"], ["b"])


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_must_be_positive(scale):
  for make in (from_reward, from_rewards, on_tokens):
    with pytest.raises(UserError, match="annotator.scale"):
      make(_reward, scale=scale)


def test_a_batch_function_is_checked_like_the_others():
  got = judged(
    from_batch(lambda p, a, b: np.linspace(0, 1, len(p))),
    PROMPTS,
    "abcd",
    "efgh",
  )
  np.testing.assert_allclose(got, [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
  assert got.dtype == np.float32
  for bad in (lambda p, a, b: [0.5], lambda p, a, b: [0.5, 1.2, 0, 1]):
    with pytest.raises(UserError, match="annotator"):
      judged(from_batch(bad), PROMPTS, "abcd", "efgh")


def _sequences(texts):
  """Sequences with one token per character; short rows are padded."""
  width = max(map(len, texts))
  tokens = np.array([[ord(c) for c in x.ljust(width, "\0")] for x in texts])
  lengths = np.array([len(x) for x in texts])
  return Sequences(tokens, np.arange(width) < lengths[:, None], lengths)


@pytest.mark.parametrize("rows", [2, 5, 64])
def test_a_judge_on_tokens_says_what_the_same_function_says_on_the_host(rows):
  shapes = set()

  def share(sequences):
    shapes.add(sequences.tokens.shape)
    of = (sequences.tokens == ord("a")) & sequences.mask
    return of.sum(1) / sequences.lengths

  texts = ["aab", "b", "baaaa", "ab", "aaaaaaab"]
  others = texts[::-1]
  host = from_reward(lambda p, x: x.count("a") / len(x), scale=3.0)
  device = on_tokens(share, cost=lambda x: -share(x), scale=3.0, rows=rows)
  answers = [
    make_answers([""] * 5, x, sequences=_sequences(x)) for x in (texts, others)
  ]
  found = [assess(device, x) for x in answers]
  want = [assess(host, x) for x in answers]
  for got, expected in zip(found, want):
    assert isinstance(got.reward, jax.Array)
    np.testing.assert_allclose(got.reward, expected.reward, rtol=1e-6)
    np.testing.assert_allclose(got.cost, -expected.reward, rtol=1e-6)
  np.testing.assert_allclose(
    compare(device, *found), compare(host, *want), rtol=1e-6
  )
  assert len(shapes) == 1  # one shape, so that one program is compiled
  prefer = on_tokens(
    preference=lambda a, b: jax.nn.sigmoid(3 * (share(a) - share(b))), rows=rows
  )
  np.testing.assert_allclose(
    compare(prefer, *(assess(prefer, x) for x in answers)),
    compare(host, *want),
    rtol=1e-6,
  )
  with pytest.raises(UserError, match="the answers have only texts"):
    judged(device, ["p"], ["x"], ["y"])
