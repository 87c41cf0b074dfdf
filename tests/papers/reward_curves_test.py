"""Courses of learned rewards: best-of-n, win rates, claims on known curves."""

import itertools

import numpy as np
import pytest

from experiments.papers import reward_curves, win_rates
from experiments.papers.reward_courses import HALF, Course
from jalign.data import tldr_world as world


def test_best_of_n_by_enumeration():
  rewards = np.array([[0.3, -1.0, 2.0], [1.0, 1.5, 0.0]])
  values = np.array([[1.0, 0.0, 5.0], [2.0, 4.0, 6.0]])
  cost, means = win_rates.best_of(rewards, values, 2)
  drawn = list(itertools.product(range(3), repeat=2))
  for row, value, mean in zip(rewards, values, means):
    kept = [max(pair, key=lambda i: row[i]) for pair in drawn]
    assert mean == pytest.approx(np.mean(value[kept]))
  law = np.array([1, 3, 5]) / 9
  assert cost == pytest.approx(np.sum(law * np.log(3 * law)))
  none, plain = win_rates.best_of(rewards, values, 1)
  assert none == pytest.approx(0, abs=1e-12)
  np.testing.assert_allclose(plain, values.mean(1))


def test_win_rates_over_the_start():
  posts = [world.post(i).text for i in range(3)]
  kinds = ("complete plain", "complete sourced", "all but one sourced")
  texts = [
    [world.archetype(kind, world.read_post(post)) for kind in kinds]
    for post in posts
  ]
  flat = world.attributes(np.repeat(posts, 3), sum(texts, []))
  of = world.Attributes(*(np.reshape(x, (3, 3)) for x in flat))
  got = win_rates.readers(of, of, rows=2)
  for post, row, rates in zip(posts, texts, got):
    for text, rate in zip(row, rates):
      p = world.population([post] * 3, [text] * 3, row)
      assert rate == pytest.approx(np.mean(p))
  rewards = np.array([[0.0, 1.0]])
  np.testing.assert_allclose(
    win_rates.learned(rewards, rewards),
    [[0.25 + 0.5 / (1 + np.e), 0.25 + 0.5 / (1 + 1 / np.e)]],
  )


def course(gold, judged, other=()):
  n = len(gold)
  arrays = np.arange(n) / 2, judged, gold, np.full(n, 0.001), other
  return Course(*map(np.array, arrays))


def test_a_page_of_known_courses():
  up, turned = [0.5, 0.6, 0.7], [0.5, 0.6, 0.55]
  courses = {name: course(turned, up) for name in reward_curves.NAMES}
  courses["PPO on the log sigmoid"] = course(up, up)
  courses[HALF] = course(turned, up, [0.5, 0.59, 0.6])
  assert reward_curves.peak(courses["PPO"]) == 1
  falls = reward_curves.gold_claims(courses)
  assert [row.holds for row in falls] == [True] * 3
  assert [r.holds for r in reward_curves.variant_claims(courses)] == [
    True,
    False,
  ]
  assert reward_curves.half_claims(courses)[0].holds
  straight = {name: course(up, up, up) for name in courses}
  assert not any(row.holds for row in reward_curves.gold_claims(straight))
  assert not reward_curves.half_claims(straight)[0].holds
  assert reward_curves.table(courses).count("| PPO |") == 1
  assert len(reward_curves.draw(courses).axes) == 3
