"""Simulated annotators and both orders, against exact values."""

import math

import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.errors import UserError
from jalign.feedback import (
  assess,
  from_batch,
  from_preference,
  from_reward,
  make_answers,
)
from jalign.feedback.evidence import (
  both_orders,
  for_people,
  from_evidence,
  mean_scores,
  verdict_entropy,
  verdicts,
)
from jalign.feedback.noise import draws, noisy, pool
from jalign.feedback.rules import Rule, decide, from_rules, margins_of
from tests.feedback.judged import judged

COUNT = 4000
PROMPTS = [f"prompt {i}" for i in range(COUNT)]
A, B = ["good"] * COUNT, ["bad"] * COUNT


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _normal(x):
  return 0.5 * math.erfc(-x / math.sqrt(2))


def test_noise_flips_a_quarter_of_the_labels_in_either_order():
  """Agreement .75; a win rate of .8 is seen as .65."""
  sure = from_preference(lambda p, a, b: float(a > b))
  judge = noisy(sure, seed=3)
  found = judged(judge, PROMPTS, A, B)
  assert set(found) == {0.0, 1.0}
  assert abs(found.mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / COUNT)
  np.testing.assert_array_equal(judged(judge, PROMPTS, B, A), 1 - found)
  np.testing.assert_array_equal(judged(judge, PROMPTS, A, B), found)
  mostly = noisy(from_preference(lambda p, a, b: 0.8 if a > b else 0.2))
  seen = judged(mostly, PROMPTS, A, B).mean()
  assert abs(seen - 0.65) < 4 * 0.35 / math.sqrt(COUNT)
  assert (
    abs((judged(noisy(sure, seed=4), PROMPTS, A, B) == found).mean() - 0.625)
    < 0.04
  )


def test_noise_leaves_equal_texts_and_rewards_alone():
  judge = noisy(from_reward(lambda p, x: len(x)), share=0.5)
  np.testing.assert_array_equal(judged(judge, PROMPTS, A, A), 0.5)
  assert assess(judge, make_answers(["p"], ["abc"])).reward.tolist() == [3]
  found = judged(judge, PROMPTS, A, B)
  assert set(found) == {0.0, 1.0} and abs(found.mean() - 0.5) < 0.04
  none = noisy(from_reward(lambda p, x: len(x)), share=0.0)
  np.testing.assert_allclose(judged(none, PROMPTS, A, B), _sigmoid(1.0))
  with pytest.raises(UserError, match="outside"):
    noisy(judge, share=0.6)


def test_a_pair_has_one_rater_of_the_pool():
  raters = {"yes": from_preference(lambda *x: float(x[1] > x[2])), "no": None}
  raters["no"] = from_preference(lambda *x: float(x[1] < x[2]))
  judge = pool(raters, weights={"yes": 3, "no": 1})
  found = judged(judge, PROMPTS, A, B)
  assert abs(found.mean() - 0.75) < 0.03
  np.testing.assert_array_equal(judged(judge, PROMPTS, B, A), 1 - found)
  only = pool(raters, weights={"yes": 0, "no": 1})
  np.testing.assert_array_equal(judged(only, PROMPTS, A, B), 0)


def test_draws_are_uniform_and_differ_by_name():
  one = draws(0, "x", PROMPTS, A, B)
  assert one.min() >= 0 and one.max() < 1 and abs(one.mean() - 0.5) < 0.02
  other = draws(0, "y", PROMPTS, A, B)
  assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


def test_scores_of_both_orders_cancel_an_additive_bonus():
  """True gaps N(.3, 1), noise N(0, 1) a score gap, a bonus of .8 for the first.

  The first order says .7817, the second .3618, their mean .5718, scores of both
  orders .5968, where the truth is .6179.
  """
  rng = np.random.default_rng(0)
  count, bonus = 200_000, 0.8
  gap = rng.normal(0.3, 1, count)
  noise = rng.normal(size=(2, count))
  zero = np.zeros(count)
  in_order = np.stack([gap + noise[0] + bonus, zero], 1)[:, None]
  swapped = np.stack([gap + noise[1], zero + bonus], 1)[:, None]
  scores = mean_scores(in_order, swapped)
  each = verdicts(in_order, swapped).mean(0)
  exact = [_normal(1.1 / math.sqrt(2)), _normal(-0.5 / math.sqrt(2))]
  np.testing.assert_allclose(exact, [0.7817, 0.3618], atol=1e-4)
  np.testing.assert_allclose(each, exact, atol=0.004)
  balanced = (scores[:, 0] > scores[:, 1]).mean()
  assert abs(balanced - _normal(0.3 / math.sqrt(1.5))) < 0.004  # .5968
  assert abs((gap > 0).mean() - _normal(0.3)) < 0.004  # .6179
  assert abs(each.mean() - 0.5718) < 0.004


def test_the_entropy_of_verdicts_says_what_people_should_judge():
  given = [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0.5, 0, 0.5], [np.nan] * 4]
  entropy = verdict_entropy(given)
  expected = [math.log(2), 0, 1.5 * math.log(2), np.nan]
  np.testing.assert_allclose(entropy, expected)
  assert abs(entropy[0] - 0.693) < 1e-3
  assert for_people(entropy, 0.5).tolist() == [3, 2]
  assert for_people(entropy, 0.0).size == 0
  with pytest.raises(UserError, match="outside"):
    for_people(entropy, 2.0)


def test_evidence_is_asked_in_both_orders_and_averaged():
  def score(first, second, number):
    rows = [
      (len(x) + 5.0, len(y) + number) for x, y in zip(first.texts, second.texts)
    ]
    rows[-1] = (np.nan, np.nan) if number else rows[-1]
    return np.array(rows)

  sides = ["aaa", "a", "aa"], ["a", "aaa", "aa"]
  judge = from_evidence(score, k=2)
  assert judged(judge, ["p"] * 3, *sides).tolist() == [1, 0, 0.5]
  graded = judged(from_evidence(score, k=2, scale=0.5), ["p"] * 3, *sides)
  np.testing.assert_allclose(graded, _sigmoid(np.array([1, -1, 0])))

  def silent(first, second, number):
    given = np.array(score(first, second, number))
    given[[x == "aaa" for x in first.texts]] = np.nan
    return given

  found = judged(from_evidence(silent, k=2), ["p"] * 3, *sides)
  assert np.isnan(found).tolist() == [True, True, False]
  with pytest.raises(UserError, match="1 or more"):
    from_evidence(score, k=0)


@pytest.mark.parametrize("gap, same", [(0.2, 0.4327), (1, 0.5357), (3, 0.8827)])
def test_an_order_effect_and_how_both_orders_remove_it(gap, same):
  bonus = 0.8
  judge = from_preference(
    lambda p, a, b: float(_sigmoid((gap if a == "good" else -gap) + bonus))
  )
  first = judged(judge, ["p"], ["good"], ["bad"])[0]
  second = 1 - judged(judge, ["p"], ["bad"], ["good"])[0]
  consistent = first * second + (1 - first) * (1 - second)
  assert abs(consistent - same) < 1e-4
  by_odds = both_orders(judge, mean="log_odds")
  assert (
    abs(judged(by_odds, ["p"], ["good"], ["bad"])[0] - _sigmoid(gap)) < 1e-6
  )
  averaged = both_orders(judge)
  p = judged(averaged, ["p"], ["good"], ["bad"])[0]
  assert abs(p - (first + second) / 2) < 1e-6
  assert abs(p + judged(averaged, ["p"], ["bad"], ["good"])[0] - 1) < 1e-6


def test_the_first_difference_beyond_its_margin_decides():
  differences = [
    [0.5, -3, 1],
    [2, -3, 1],
    [0.5, 0, 0],
    [-1.5, 9, 9],
    [1, 0, -1],
  ]
  found = decide(differences, [1.0, 2.0, 0.0])
  assert found.verdict.tolist() == [-1, 1, 0, -1, -1]
  assert found.level.tolist() == [1, 0, -1, 0, 2]
  np.testing.assert_allclose(margins_of([[0, 1], [2, 1]], 0.5), [0.5, 0])


def _world_pairs(count=4):
  posts, a, b = [], [], []
  for i in range(count):
    there = world.post(i)
    texts = [world.archetype(name, there) for name in world.ARCHETYPES]
    for x in texts:
      for y in texts:
        posts.append(there.text)
        a.append(x)
        b.append(y)
  return posts, a, b


def _attributes(answers):
  return world.attributes(answers.prompts, answers.texts)._asdict()


def test_rules_without_margins_are_the_worlds_coverage_first_group():
  posts, a, b = _world_pairs()
  rules = [Rule("grammatical"), Rule("coverage"), Rule("hallucinations", -1)]
  rules += [Rule("words", -1)]
  judge = from_rules(_attributes, rules, tremble=0.05)
  found = judged(judge, posts, a, b)
  group = world.annotator(world.GROUPS["coverage first"])(posts, a, b)
  decided = group != 0.5
  np.testing.assert_allclose(found[decided], group[decided], rtol=1e-6)
  assert np.isnan(found[~decided]).all() and not decided.all()
  counts = judge.counts()
  assert sum(counts.values()) == len(posts)
  assert counts["undecided"] == (~decided).sum()
  squared = lambda answers: {k: x**3 for k, x in _attributes(answers).items()}
  again = judged(from_rules(squared, rules, tremble=0.05), posts, a, b)
  np.testing.assert_array_equal(found, again)


def test_bad_rules_are_named():
  with pytest.raises(UserError, match="no rules"):
    from_rules(_attributes, [])
  with pytest.raises(UserError, match="is no rule"):
    from_rules(_attributes, [Rule("words", 2)])
  judge = from_rules(_attributes, [Rule("word")])
  with pytest.raises(UserError, match="'words'"):
    judged(judge, *_world_pairs(1))
  alike = from_batch(lambda prompts, a, b: [0.5] * len(a))
  assert judged(alike, ["p"], ["a"], ["b"]).tolist() == [0.5]
