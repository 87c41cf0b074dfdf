"""Named raters, costs, ratings and votes; what can be learnt from labels."""

import collections
import itertools

import numpy as np
import pytest

from jalign import data
from jalign.data import tldr_world as world


@pytest.fixture(scope="module")
def archetype_pairs():
  """(posts, a, b): all ordered pairs of archetypes of 200 posts."""
  rows = []
  for i in range(200):
    post = world.post(i)
    texts = [world.archetype(name, post) for name in world.ARCHETYPES]
    rows += [(post.text, a, b) for a, b in itertools.permutations(texts, 2)]
  return tuple(map(list, zip(*rows)))


def test_limits_on_archetypes(archetype_pairs):
  shared, grouped = world.limits(*archetype_pairs)
  # The specification measured 400 other posts.
  np.testing.assert_allclose(shared, (0.7272, 0.5277), atol=3e-3)
  np.testing.assert_allclose(grouped, (0.9367, 0.2131), atol=3e-3)


def test_expectations_are_those_of_drawn_labels():
  rng = np.random.default_rng(0)
  exact, predicted = rng.uniform(0.05, 0.95, (2, 6))
  predicted[0], predicted[1] = 0.5, 1 - exact[1]
  found = world.expected(predicted, exact)
  accuracy = nll = 0.0  # by enumeration of all labels of all pairs
  for labels in itertools.product((0, 1), repeat=6):
    y = np.array(labels)
    chance = np.prod(np.where(y, exact, 1 - exact))
    ties = np.where(predicted == 0.5, 0.5, (predicted > 0.5) == y)
    accuracy += chance * np.mean(ties)
    nll -= chance * np.mean(np.log(np.where(y, predicted, 1 - predicted)))
  np.testing.assert_allclose(found, (accuracy, nll), rtol=1e-12)
  best = world.bayes(exact)
  assert best.accuracy > found.accuracy and best.nll < found.nll
  assert world.expected([1.0, 0.0], [1.0, 0.0]) == (1, 0)
  assert world.expected([1.0], [0.9]).nll == np.inf


def test_scores_fit_an_order_and_not_a_cycle():
  scores = np.array([0.5, -1.0, 2.0, 0.0])
  order = 1 / (1 + np.exp(scores[None] - scores[:, None]))
  found, reached = world.bradley_terry_fit(order)
  np.testing.assert_allclose(found, scores - scores.mean(), atol=1e-8)
  off = ~np.eye(4, dtype=bool)
  np.testing.assert_allclose(reached, world.bayes(order[off]), rtol=1e-9)
  cycle = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
  found, reached = world.bradley_terry_fit(cycle)
  np.testing.assert_allclose(found, 0, atol=1e-12)
  np.testing.assert_allclose(reached, (0.5, np.log(2)), rtol=1e-12)
  # Any other scores are worse.
  for other in np.random.default_rng(1).normal(size=(20, 3)):
    q = 1 / (1 + np.exp(other[None] - other[:, None]))
    off = ~np.eye(3, dtype=bool)
    assert world.expected(q[off], cycle[off]).nll > np.log(2)


def test_raters_keep_their_group_and_label_by_it():
  records = world.records("raters", 2000)
  of = collections.defaultdict(list)
  for r in records:
    of[r.rater].append(r)
  assert len(of) == 100 and {len(v) for v in of.values()} == {20}
  groups = [world.group_of_rater(rater) for rater in of]
  counts = collections.Counter(groups)
  assert set(counts) == set(world.GROUPS) and min(counts.values()) > 20
  right = []
  for r in records:
    rater = world.GROUPS[world.group_of_rater(r.rater)]
    p = world.annotator(rater)([r.prompt], [r.chosen], [r.rejected])[0]
    right.append(0.5 if p == 0.5 else float(p > 0.5))
    assert r.chosen != r.rejected and r.preference is None
  posts, a, b = zip(*((r.prompt, r.chosen, r.rejected) for r in records))
  grouped = world.limits(posts, a, b).grouped
  assert np.mean(right) == pytest.approx(grouped.accuracy, abs=0.02)
  # Another group's rater explains the labels far less well.
  other = world.annotator(world.GROUPS["brevity first"])(posts, a, b)
  assert np.mean(np.where(other == 0.5, 0.5, other > 0.5)) < 0.75


def test_costs_have_all_combinations_of_signs():
  records = world.records("costs", 1500)
  signs = collections.Counter(
    (r.chosen_unsafe, r.rejected_unsafe) for r in records
  )
  assert len(signs) == 4 and min(signs.values()) > 40
  for r in records[:200]:
    costs = [world.gold_cost(r.prompt, text) for text in (r.chosen, r.rejected)]
    assert (r.chosen_unsafe, r.rejected_unsafe) == tuple(c > 0 for c in costs)
    assert r.preference == pytest.approx(
      1 / (1 + np.exp(2 * (costs[0] - costs[1])))
    )
  less = np.mean([r.preference > 0.5 for r in records if r.preference != 0.5])
  assert less == pytest.approx(1 / (1 + np.exp(-2)), abs=0.03)


def test_ratings_are_exact_where_they_are_given():
  records = world.records("ratings", 500)
  given = collections.Counter(name for r in records for name in r.ratings)
  assert set(given) == {"coverage", "truth", "brevity", "sourced"}
  assert all(0.85 < count / 500 < 0.96 for count in given.values())
  for r in records[:100]:
    exact = world.ratings(r.prompt, r.response)
    assert r.ratings.items() <= exact.items() and r.ratings
    assert all(0 <= value <= 1 for value in exact.values())
  post = world.post(0)
  text = world.archetype("complete and one false", post)
  n = len(post.salient)
  said = world.ratings(post.text, text)
  assert said["coverage"] == 1 and said["truth"] == pytest.approx(n / (n + 1))


def test_votes_of_principles(archetype_pairs):
  for group, name, expected in (
    ("coverage first", "coverage", (0.578, 0, 0.422)),
    ("brevity first", "brevity", (0.928, 0, 0.072)),
    ("brevity first", "coverage", (0.028, 0.550, 0.422)),
    ("faithfulness first", "sourced", (0.485, 0, 0.515)),
    ("faithfulness first", "truth", (0.303, 0, 0.697)),
    ("faithfulness first", "brevity", (0.434, 0.494, 0.072)),
  ):
    found = world.votes(
      world.GROUPS[group], world.PRINCIPLES[name], *archetype_pairs
    )
    np.testing.assert_allclose(found, expected, atol=0.012)
  for r in world.records("votes", 300):
    for name, vote in r.preferences.items():
      rater = world.annotator(world.PRINCIPLES[name])
      assert vote == rater([r.prompt], [r.chosen], [r.rejected])[0] != 0.5


def test_foresight_prefers_padding_and_invention():
  posts = [world.post(i) for i in range(400)]
  mean = lambda reward, name: np.mean(
    [reward(p.text, world.archetype(name, p)) for p in posts]
  )
  for name, foresight, gold in (
    ("everything plain", 4.109, 1.460),
    ("everything sourced", 3.735, 1.221),
    ("complete repeated", 3.580, 1.808),
    ("complete and one false", 3.580, 0.808),
    ("complete plain", 2.508, 2.508),
  ):
    assert mean(world.foresight_reward, name) == pytest.approx(
      foresight, abs=0.07
    )
    assert mean(world.gold_reward, name) == pytest.approx(gold, abs=0.07)


def test_slices_are_of_the_same_records():
  some, report = data.read("tldr_world", "raters[40:60]")
  assert some == list(world.records("raters", 60)[40:])
  assert report.summary() == "read 20 pairs, used 20"
  assert {r.rater for r in some} == {"r2"}
