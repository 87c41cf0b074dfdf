"""Reward models on features: their fit, its errors, and the judge."""

import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.data.tldr_world.language import rng
from jalign.errors import UserError
from jalign.feedback import assess, compare, make_answers
from jalign.feedback.features import fit_features, judge_of_features

NAMES = ("a", "b", "c")
TRUE = np.array([1.0, -0.5, 0.2])


def _pairs(n, seed=0):
  """Features of N pairs, the labelled winner first, under the weights TRUE."""
  draw = np.random.default_rng(seed)
  first, second = draw.normal(size=(2, n, 3)) * [1.0, 2.0, 5.0]
  p = 1 / (1 + np.exp(-(first - second) @ TRUE))
  won = draw.uniform(size=n) < p
  swap = lambda x, y: np.where(won[:, None], x, y)
  return swap(first, second), swap(second, first), p, (first, second)


def test_the_gradient_vanishes_and_intervals_hold_the_truth():
  chosen, rejected, *_ = _pairs(2000)
  fit = fit_features(chosen, rejected, NAMES)
  x = chosen - rejected
  p = 1 / (1 + np.exp(-x @ fit.coefficients))
  np.testing.assert_allclose(x.T @ (1 - p), 0, atol=1e-7)
  np.testing.assert_allclose(fit.nll, -np.log(p).mean(), rtol=1e-12)
  assert fit.accuracy == pytest.approx((x @ fit.coefficients > 0).mean())
  # The sandwich, written with loops.
  bread = np.linalg.inv(sum(q * (1 - q) * np.outer(r, r) for q, r in zip(p, x)))
  meat = sum((1 - q) ** 2 * np.outer(r, r) for q, r in zip(p, x)) * 2000 / 1999
  want = np.sqrt(np.diag(bread @ meat @ bread))
  np.testing.assert_allclose(fit.standard_errors, want, rtol=1e-6)
  np.testing.assert_allclose(
    fit.intervals.T, fit.coefficients + 1.959964 * np.outer([-1, 1], want),
    rtol=1e-5,
  )  # fmt: skip
  assert (np.abs(fit.coefficients - TRUE) < 4 * want).all()
  low, high = fit.intervals[0]
  line = f"a: {fit.coefficients[0]:.3f} ({low:.3f} to {high:.3f})"
  assert fit.summary().split("\n")[0] == line


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
  fits = [fit_features(*_pairs(300, seed)[:2], NAMES) for seed in range(100)]
  held = np.mean(
    [(f.intervals[:, 0] < TRUE) & (f.intervals[:, 1] > TRUE) for f in fits]
  )
  assert 0.9 <= held <= 0.99


def test_copies_of_a_pair_in_its_group_say_nothing_new():
  chosen, rejected, *_ = _pairs(200)
  once = fit_features(chosen, rejected, NAMES, groups=range(200))
  twice = [np.concatenate([x, x]) for x in (chosen, rejected)]
  grouped = fit_features(*twice, NAMES, groups=[*range(200)] * 2)
  alone = fit_features(*twice, NAMES)
  np.testing.assert_allclose(grouped.coefficients, once.coefficients)
  np.testing.assert_allclose(grouped.standard_errors, once.standard_errors)
  ratio = alone.standard_errors / once.standard_errors
  np.testing.assert_allclose(ratio, 0.5**0.5, rtol=0.01)
  assert (grouped.groups, alone.groups) == (200, 400)


def test_soft_labels_units_and_order_of_a_pair():
  *_, p, (first, second) = _pairs(50)
  exact = fit_features(first, second, NAMES, preference=p)
  np.testing.assert_allclose(exact.coefficients, TRUE, rtol=1e-8)
  turned = fit_features(second, first, NAMES, preference=1 - p)
  np.testing.assert_allclose(turned.coefficients, TRUE, rtol=1e-8)
  units = np.array([1e-3, 1.0, 1e4])
  scaled = fit_features(first * units, second * units, NAMES, preference=p)
  np.testing.assert_allclose(scaled.coefficients * units, TRUE, rtol=1e-6)


# ------------------------------------------------------------------ the world


def world_features(posts, summaries):
  """[N, 6] what the gold reward is linear in."""
  of = world.attributes(posts, summaries)
  return np.stack(
    [of.coverage, of.hallucinations, of.redundant, of.filler, of.words,
     1.0 - of.grammatical], 1,
  )  # fmt: skip


def test_labels_of_the_gold_rater_recover_the_gold_rewards_weights():
  names = ("coverage", "hallucinations", "redundant", "filler", "words", "bad")
  posts, sides = [], ([], [])
  for i in range(3000):
    post, draw = world.post(i), rng(0, "features", i)
    for side in sides:
      _, text = world.sample_demonstration(post, draw)
      if draw.random() < 0.2:  # a broken clause
        text = " ".join(text.split()[:-2])
      side.append(text)
    posts.append(post.text)
  a, b = (world_features(posts, side) for side in sides)
  p = world.gold(posts, *sides)
  won = np.random.default_rng(1).uniform(size=3000) < p
  pick = lambda x, y: np.where(won[:, None], x, y)
  fit = fit_features(pick(a, b), pick(b, a), names, groups=posts)
  gold = 2.0 * np.array([3.0, -1.5, -0.5, -0.3, -0.05, -3.0])
  assert (np.abs(fit.coefficients - gold) < 4 * fit.standard_errors).all()
  large = np.abs(gold) > 2
  assert (fit.standard_errors[large] < 0.15 * np.abs(gold[large])).all()

  judge = judge_of_features(world_features, gold / 2, scale=2.0)
  first, second = (make_answers(posts[:50], side[:50]) for side in sides)
  numbers = assess(judge, first).numbers("reward")
  want = [world.gold_reward(q, x) for q, x in zip(posts, sides[0][:50])]
  np.testing.assert_allclose(numbers, want, atol=1e-9)
  found = compare(judge, assess(judge, first), assess(judge, second))
  np.testing.assert_allclose(found, p[:50], atol=1e-6)


# --------------------------------------------------------------------- errors


def test_what_no_pair_can_tell_is_an_error_that_names_a_remedy():
  chosen, rejected, *_ = _pairs(60)
  same = rejected.copy()
  same[:, 1] = chosen[:, 1]
  with pytest.raises(UserError, match="b never differs within a pair"):
    fit_features(chosen, same, NAMES)
  double = lambda x: np.concatenate([x, x[:, :1] + x[:, 1:2]], 1)
  with pytest.raises(UserError, match="linearly dependent"):
    fit_features(double(chosen), double(rejected), (*NAMES, "a + b"))
  draw = np.random.default_rng(0).uniform(1, 2, (40, 1))
  line, label = np.concatenate([draw, draw**2], 1), np.zeros((40, 2))
  for k in (1, 2):  # all labels agree with the sign of a feature
    with pytest.raises(UserError, match="put every pair in its label's order"):
      fit_features(line[:, :k], label[:, :k], NAMES[:k])
  # Only one direction separates: where it isn't 0, labels agree with it.
  half = np.concatenate([line, np.zeros((40, 2))], 1)
  noise = np.concatenate(
    [np.zeros((60, 2)), chosen[:, :2] - rejected[:, :2]], 1
  )
  mixed = np.concatenate([half[:, [0, 2, 3]], noise[:, [0, 2, 3]]])
  with pytest.raises(UserError, match="put every pair in its label's order"):
    fit_features(mixed, np.zeros_like(mixed), NAMES)
  kept = fit_features(mixed, np.zeros_like(mixed), NAMES, ridge=0.1)
  assert np.isfinite(kept.coefficients).all()
  alone = fit_features(chosen, rejected, NAMES, groups=["one"] * 60)
  assert np.isnan(alone.standard_errors).all()


@pytest.mark.parametrize(
  "change, match",
  [
    ({"names": ("a",)}, "for 1 names"),
    ({"chosen": np.full((5, 3), np.nan)}, "not a finite number"),
    ({"chosen": np.zeros((0, 3)), "rejected": np.zeros((0, 3))}, "no pairs"),
    ({"preference": [2.0] * 5}, "not 5 numbers"),
    ({"groups": ["x"]}, "1 groups for 5 pairs"),
    ({"ridge": -1.0}, "must be >= 0"),
  ],
)
def test_wrong_arguments_are_named(change, match):
  good = {"chosen": _pairs(5)[0], "rejected": _pairs(5)[1], "names": NAMES}
  with pytest.raises(UserError, match=match):
    fit_features(**{**good, **change})


def test_a_judge_of_features_checks_them():
  with pytest.raises(UserError, match="not a list of finite numbers"):
    judge_of_features(world_features, [np.inf])
  judge = judge_of_features(lambda p, r: np.zeros((len(p), 2)), [1.0])
  with pytest.raises(UserError, match=r"shape \(1, 2\) for 1 responses and 1"):
    assess(judge, make_answers(["p"], ["r"]))
