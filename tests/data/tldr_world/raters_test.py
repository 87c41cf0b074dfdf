"""Raters: exact probabilities, the proven cycle, ceilings."""

import itertools

import numpy as np
import pytest

from jalign.data import tldr_world as world

CYCLE = ("complete plain", "complete sourced", "all but one sourced")
POSTS = [world.post(i) for i in range(200)]
TEXTS = [post.text for post in POSTS]


def _texts(name):
  return [world.archetype(name, post) for post in POSTS]


def test_the_population_has_a_condorcet_cycle_on_every_post():
  for a, b in zip(CYCLE, (*CYCLE[1:], CYCLE[0])):
    p = world.population(TEXTS, _texts(a), _texts(b))
    np.testing.assert_allclose(p, 0.65, rtol=1e-12)


def test_the_cycle_on_concrete_summaries():
  post = (
    "post: importantly anna sold bikes online . so cold here ."
    " finally ben hid maps twice . carla lost hats today . tl;dr: "
  )
  plain = "anna sold bikes . ben hid maps ."
  sourced = "anna sold bikes online . ben hid maps twice ."
  short = "anna sold bikes online ."
  verdicts = {
    # P(the first is preferred) by group: coverage, brevity, faithfulness
    (plain, sourced): (0.95, 0.95, 0.05),
    (sourced, short): (0.95, 0.05, 0.95),
    (short, plain): (0.05, 0.95, 0.95),
  }
  for (a, b), expected in verdicts.items():
    preferences = [
      world.annotator(rater)([post], [a], [b])[0]
      for rater in world.GROUPS.values()
    ]
    assert preferences == pytest.approx(expected)
    assert world.population([post], [a], [b])[0] == pytest.approx(0.65)


def test_no_reward_agrees_with_the_cycle_and_each_group_is_transitive():
  names = list(world.ARCHETYPES)
  for rater in world.GROUPS.values():
    prefer = world.annotator(rater)
    at = {
      (a, b): prefer(TEXTS[:1], _texts(a)[:1], _texts(b)[:1])[0]
      for a, b in itertools.product(names, repeat=2)
    }
    for a, b, c in itertools.permutations(names, 3):
      if at[a, b] > 0.5 and at[b, c] > 0.5:
        assert at[a, c] > 0.5
  gold = {
    n: np.mean([*map(world.gold_reward, TEXTS, _texts(n))]) for n in names
  }
  assert max(gold, key=gold.__getitem__) == "complete plain"


@pytest.mark.parametrize(
  "annotate",
  [
    world.population,
    world.gold,
    world.gold_length_biased,
    world.gold_noisy,
  ],
)
def test_two_orders_sum_to_one(annotate):
  for a, b in itertools.product(world.ARCHETYPES, repeat=2):
    p = annotate(TEXTS[:20], _texts(a)[:20], _texts(b)[:20])
    q = annotate(TEXTS[:20], _texts(b)[:20], _texts(a)[:20])
    np.testing.assert_allclose(p + q, 1, atol=1e-12)


def test_biased_and_noisy_raters():
  a, b = _texts("complete sourced")[:1], _texts("complete plain")[:1]
  words = len(a[0].split()) - len(b[0].split())
  margin = 2 * (-0.05 * words)  # the two differ only in length
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  assert world.gold(TEXTS[:1], a, b)[0] == pytest.approx(sigmoid(margin))
  biased = world.gold_length_biased(TEXTS[:1], a, b)[0]
  assert biased == pytest.approx(sigmoid(margin + 0.2 * words))
  assert biased > 0.5 > world.gold(TEXTS[:1], a, b)[0]
  noisy = world.gold_noisy(TEXTS[:1], a, b)[0]
  assert noisy == pytest.approx(0.2 + 0.6 * sigmoid(margin))


def test_the_ceiling_is_reached_and_never_exceeded():
  rng = np.random.default_rng(0)
  drawn = [
    [world.sample_demonstration(post, rng)[1] for _ in range(8)]
    for post in POSTS[:60]
  ]
  best = world.best_responses(world.population_rater, POSTS[:60], drawn)
  flat = [text for texts in drawn for text in texts]
  eights = [text for text in TEXTS[:60] for _ in range(8)]
  chances = []
  for name in world.ARCHETYPES:
    mine = [text for text in _texts(name)[:60] for _ in range(8)]
    p = world.population(eights, mine, flat).reshape(60, 8).mean(1)
    assert (p <= best + 1e-12).all()
    chances.append(p)
  # If a pure type is the best response, enumeration finds no better one.
  assert np.mean(np.max(chances, 0) >= best - 1e-12) > 0.3
  gold = world.best_responses(world.gold_rater, POSTS[:60], drawn)
  plain = [text for text in _texts("complete plain")[:60] for _ in range(8)]
  p = world.gold(eights, plain, flat).reshape(60, 8).mean(1)
  np.testing.assert_allclose(p, gold)  # no response has a higher reward


def test_the_two_bounds_of_a_best_response_close_in_on_each_other():
  rng = np.random.default_rng(1)
  posts = POSTS[:40]
  drawn = [
    [world.sample_demonstration(post, rng)[1] for _ in range(200)]
    for post in posts
  ]
  gaps = []
  for count in (8, 40, 200):
    some = [texts[:count] for texts in drawn]
    upper = world.best_responses(world.population_rater, posts, some).mean()
    lower = world.cross_fitted(world.population_rater, posts, some).mean()
    assert lower < upper
    gaps.append(upper - lower)
  assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.015


def test_attainable_attributes_are_those_of_some_text():
  post = next(p for p in POSTS if len(p.salient) == 2)
  table = world.attainable(2, 10)
  rows = {tuple(np.round(row, 9)) for row in np.stack(table, 1)}
  salient, other = post.salient, post.others[0]
  false = (salient[0].name, salient[1].verb, salient[0].object)
  bricks = [
    *(f.plain for f in (*salient, other)),
    *(f.sourced for f in (*salient, other)),
    (*false, "."),
    (*false, salient[0].detail, "."),
  ]
  bricks += [("it", "seems", "that", *brick) for brick in bricks]
  made = set()
  for count in (1, 2):
    for parts in itertools.product(bricks, repeat=count):
      text = [word for part in parts for word in part]
      if len(text) <= 10:
        of = world.attributes([post.text], [" ".join(text)])
        made.add(tuple(np.round([float(x[0]) for x in of], 9)))
  assert made == rows


def test_exploitability_of_pure_and_mixed_policies():
  pure = world.exploitability(
    world.population_rater, TEXTS, _texts("complete plain")
  )
  assert pure == pytest.approx(0.15)
  posts = [text for text in TEXTS for _ in range(3)]
  mixed = [world.archetype(name, post) for post in POSTS for name in CYCLE]
  # Uniform over the cycle is the Nash equilibrium among pure types; against
  # all attainable summaries it can be exploited a little.
  gain = world.exploitability(world.population_rater, posts, mixed)
  assert 0 <= gain < 0.06
