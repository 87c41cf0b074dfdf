"""Judges made of judges, against the formulas in float64."""

import json

import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.errors import UserError
from jalign.feedback import (
  Judge,
  assess,
  from_batch,
  from_cost,
  from_preference,
  from_reward,
  make_answers,
)
from jalign.feedback.combine import (
  all_good,
  all_pass,
  ensemble,
  mixture,
  weighted,
)
from jalign.feedback.references import quantiles, read_references
from jalign.feedback.verifiers import judge_of, make
from jalign.losses import reward_transforms
from tests.feedback.judged import judged

TEXTS = ["a", "bb", "ccc", "dddd"]
ANSWERS = make_answers(["p", "p", "q", "q"], TEXTS)


def _told(*rewards, cost=None):
  """A judge with given rewards of `TEXTS`."""
  judge = from_reward(lambda p, x: rewards[len(x) - 1])
  return judge if cost is None else judge._replace(cost=from_cost(cost).cost)


def test_a_weighted_sum_keeps_each_judges_numbers():
  length = _told(1.0, 2.0, 3.0, 4.0, cost=lambda p, x: len(x) - 2.5)
  judge = weighted(
    {"length": length, "even": _told(0.0, 1.0, 0.0, 1.0)},
    {"length": 2.0, "even": -1.0},
    penalties={"length": 0.5},
    costs={"length": 3.0},
    scale=0.1,
  )
  told = assess(judge, ANSWERS)
  cost = np.array([-1.5, -0.5, 0.5, 1.5])
  reward = np.array([2, 3, 6, 7]) - 0.5 * cost
  np.testing.assert_allclose(told.reward, reward)
  np.testing.assert_allclose(told.cost, 3 * cost)
  assert judge.parts.names == ("length", "length cost", "even")
  assert told.parts["even"].tolist() == [0, 1, 0, 1]
  np.testing.assert_allclose(told.parts["length cost"], cost)
  np.testing.assert_allclose(judge.reward(ANSWERS), reward)
  p = judged(judge, ["p"] * 2, ["a", "dddd"], ["bb", "a"])
  gaps = np.array([reward[0] - reward[1], reward[3] - reward[0]])
  np.testing.assert_allclose(p, 1 / (1 + np.exp(-0.1 * gaps)), rtol=1e-6)


def test_parts_of_parts_have_the_names_of_both():
  format_judge = judge_of(make("format", pattern="[ab]+"))
  whole = weighted(
    {"form": format_judge, "own": _told(1, 2, 3, 4)}, {"form": 1, "own": 0}
  )
  outer = all_pass({"sum": whole}, threshold=1.0)
  assert outer.parts.names == (
    "sum",
    "sum form",
    "sum form answered",
    "sum own",
  )
  told = assess(outer, ANSWERS)
  assert told.reward.tolist() == [1, 1, 0, 0]
  assert told.take([2, 1]).parts["sum own"].tolist() == [3, 2]


def test_every_verifier_must_pass():
  short = judge_of(make("format", pattern=".{1,3}"))
  not_a = judge_of(make("regex", pattern="[^a]"))
  told = assess(all_pass({"short": short, "not a": not_a}), ANSWERS)
  assert told.reward.tolist() == [0, 1, 1, 0]
  assert told.parts["short"].tolist() == [1, 1, 1, 0]


def test_an_and_of_rewards_is_the_posterior_of_all_good():
  """Four responses of equal prior; golden values of the exact posterior."""
  first, second = (5.0, 1.0, -1.0, -4.0), (-4.0, 1.0, 2.0, 5.0)
  judge = all_good(
    {"first": _told(*first), "second": _told(*second)},
    {"first": 0.0, "second": 0.0},
  )
  told = assess(judge, ANSWERS).reward
  policy = np.exp(told) / np.exp(told).sum()
  np.testing.assert_allclose(
    policy, [0.0221, 0.6622, 0.2935, 0.0221], atol=1e-4
  )
  both = np.stack([first, second], 1)
  np.testing.assert_allclose(
    told, reward_transforms.all_good(both, 0.0), rtol=1e-5
  )
  plain = np.exp(both.sum(1))
  np.testing.assert_allclose(
    plain / plain.sum(), [0.175, 0.475, 0.175, 0.175], atol=1e-3
  )


def test_a_reference_is_a_quantile_of_its_prompts_rewards(tmp_path):
  prompts, rewards = ["p"] * 4 + ["q"], [0.0, 1.0, 2.0, 3.0, 7.0]
  assert quantiles(prompts, rewards, 0.85) == {"p": pytest.approx(2.55), "q": 7}
  path = tmp_path / "references.jsonl"
  rows = [{"prompt": "p", "r": [0, 1]}, {"prompt": "p", "r": 3}]
  rows += [{"prompt": "q", "r": 7}]
  path.write_text("\n".join(map(json.dumps, rows)))
  found = read_references(path, "r", 0.5)
  assert found == {"p": 1, "q": 7}
  told = assess(all_good({"x": _told(1, 2, 3, 4)}, {"x": found}), ANSWERS)
  gaps = np.array([0.0, 1.0, -4.0, -3.0])
  np.testing.assert_allclose(told.reward, -np.log1p(np.exp(-gaps)))
  with pytest.raises(UserError, match="1 of 1 prompts have no reference"):
    asked = all_good({"x": _told(1)}, {"x": found})
    assess(asked, make_answers(["new"], ["a"]))
  with pytest.raises(UserError, match=r"jsonl:1.*It has: prompt, r"):
    read_references(path, "reward")
  with pytest.raises(UserError, match="outside"):
    quantiles(prompts, rewards, 1.5)
  with pytest.raises(UserError, match="is nan"):
    quantiles(["p"], [np.nan], 0.5)


def test_an_ensemble_is_as_sure_as_its_rule():
  judges = {
    "x": _told(0, 1, 2, 3),
    "y": _told(2, 1, 0, 3),
    "z": _told(1, 1, 4, 3),
  }
  rewards = np.array([[0, 1, 2, 3], [2, 1, 0, 3], [1, 1, 4, 3]], float)
  for rule, expected in {
    "mean": rewards.mean(0),
    "minimum": rewards.min(0),
    "lower_bound": rewards.mean(0) - 2 * rewards.std(0, ddof=1),
  }.items():
    told = assess(ensemble(judges, rule=rule, k=2.0), ANSWERS)
    np.testing.assert_allclose(told.reward, expected, err_msg=rule)
    assert told.parts["z"].tolist() == [1, 1, 4, 3]
  p, q = (from_preference(lambda *x, c=c: c) for c in (0.2, 0.6))
  both = ensemble({"p": p, "q": q})
  np.testing.assert_allclose(judged(both, ["x"], ["a"], ["b"]), [0.4])
  with pytest.raises(UserError, match="no reward"):
    ensemble({"p": p, "q": q}, rule="minimum")
  with pytest.raises(UserError, match="'lower_bound'"):
    ensemble(judges, rule="lower")
  with pytest.raises(UserError, match="two judges"):
    ensemble({"x": judges["x"]})


def test_a_mixture_of_the_worlds_groups_is_its_population():
  posts = [world.post(i).text for i in range(6)]
  sides = [
    [world.archetype(name, world.read_post(post)) for post in posts]
    for name in list(world.ARCHETYPES)[:2]
  ]
  groups = {
    name: from_batch(world.annotator(rater))
    for name, rater in world.GROUPS.items()
  }
  found = judged(mixture(groups, None), posts, *sides)
  np.testing.assert_allclose(found, world.population(posts, *sides), rtol=1e-6)
  uneven = mixture(groups, dict(zip(groups, (2, 1, 1))))
  expected = sum(
    w * judged(group, posts, *sides)
    for w, group in zip((0.5, 0.25, 0.25), groups.values())
  )
  np.testing.assert_allclose(judged(uneven, posts, *sides), expected, rtol=1e-6)


def test_no_answer_of_one_is_no_answer_of_the_whole():
  some = Judge(
    reward=lambda answers: [np.nan if x == "a" else 1.0 for x in answers.texts],
    answers_all=False,
    counts=lambda: {"failed": 1},
  )
  for judge in (
    weighted({"some": some, "all": _told(1, 1, 1, 1)}, {"some": 1, "all": 1}),
    all_good({"some": some}, {"some": 0.0}),
    all_pass({"some": some}),
    ensemble({"some": some, "all": _told(1, 1, 1, 1)}, rule="minimum"),
  ):
    told = assess(judge, ANSWERS)
    assert np.isnan(told.reward).tolist() == [True, False, False, False]
    assert judge.counts() == {"some: failed": 1}
  pair = judged(
    mixture({"some": some}, None), ["p"] * 2, ["a", "b"], ["b", "c"]
  )
  assert np.isnan(pair).tolist() == [True, False]


def test_bad_combinations_are_named():
  one, other = _told(1), from_preference(lambda *x: 0.5)
  for message, make_one in {
    "'x' has no reward.*It has: preference": lambda: weighted(
      {"x": other}, {"x": 1}
    ),
    "'y' is none of the judges": lambda: weighted({"x": one}, {"y": 1}),
    "has no cost": lambda: weighted({"x": one}, {"x": 1}, costs={"x": 1}),
    "nan is no weight": lambda: weighted({"x": one}, {"x": float("nan")}),
    "no reward is weighed": lambda: weighted({"x": one}, {}),
    "y has no weight": lambda: weighted({"x": one, "y": one}, {"x": 1}),
    "would be named reward": lambda: weighted({"reward": one}, {"reward": 1}),
    "'x' has no reference": lambda: all_good({"x": one}, {}),
    "no weight of y": lambda: mixture({"x": one, "y": one}, {"x": 1}),
    "aren't weights": lambda: mixture({"x": one}, {"x": -1}),
    "no judges": lambda: mixture({}, None),
    "compares|no preference": lambda: mixture(
      {"x": from_cost(lambda p, x: 0.0)}, None
    ),
  }.items():
    with pytest.raises(UserError, match=message):
      make_one()
  bad = weighted({"x": _told(np.nan, 1, 1, 1)}, {"x": 1})
  with pytest.raises(UserError, match="gave a reward of nan"):
    assess(bad, ANSWERS)
