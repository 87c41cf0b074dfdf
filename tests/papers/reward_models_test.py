"""The reproduction of reward models: its labels, its statistics, its page."""

import dataclasses

import numpy as np
import pytest

from experiments.papers import reward_models_trained as page
from experiments.papers import scorers
from experiments.papers.reward_model_runs import (
  LEARNERS,
  SHIFTS,
  SIZES,
  Dialogues,
  World,
)
from jalign.data import tldr_world
from jalign.evaluation import from_margins, from_scores
from jalign.evaluation.reward_accuracy import reference_score

RNG = np.random.default_rng(0)


def test_texts_are_labelled_anew_by_the_rater_that_is_named():
  records = scorers.world_records("raters", 0, 200, tldr_world.gold)
  given = tldr_world.records("raters", 200)
  for old, new in zip(given, records):
    assert {old.chosen, old.rejected} == {new.chosen, new.rejected}
    assert (new.source, new.rater) == (old.source, None)
  texts = zip(*((r.prompt, r.chosen, r.rejected) for r in records))
  exact = tldr_world.gold(*texts)
  np.testing.assert_allclose([r.preference for r in records], exact)
  # Labels are draws: as many winners as their probabilities add up to.
  sharper = np.maximum(exact, 1 - exact)
  assert np.mean(exact > 0.5) == pytest.approx(sharper.mean(), abs=0.1)


def test_steps_count_labelled_responses_as_the_pairs_that_they_are_from():
  pairs, sides = LEARNERS["preference model"], LEARNERS["discrimination"]
  for size in SIZES:
    assert scorers.steps_of(pairs, size) == scorers.steps_of(sides, 2 * size)


def test_a_difference_is_taken_pair_by_pair():
  q = np.array([0.9, 0.8, 0.6, 0.5])
  one = from_margins([1.0, -1, 1, 1], labels=q)
  two = from_margins([-1.0, -1, 1, 0], labels=q)
  gain = scorers.difference(one, two)
  assert gain.mean == pytest.approx((0.9 - 0.1) / 4)
  with pytest.raises(ValueError):
    scorers.difference(dataclasses.replace(one, sources=("a",) * 4), two)


def _scores(quality: float, count: int = 400, real: bool = False):
  """Scores whose margins are the more often right, the higher the quality."""
  rng = np.random.default_rng(1)
  odds = rng.normal(size=count) * 2
  p = 1 / (1 + np.exp(-odds))
  chosen = quality * odds + rng.normal(size=count)
  lengths = rng.integers(1, 40, (2, count))
  return from_scores(
    chosen,
    np.zeros(count),
    labels=None if real else p,
    exact=None if real else p,
    chosen_tokens=lengths[0],
    rejected_tokens=lengths[1],
  )


def _world(**changes) -> World:
  quality = {"preference model": 2.0, "discrimination": 0.7, "imitation": 0.2}
  scores = {
    name: {n: _scores(quality[name] * (i + 1)) for i, n in enumerate(SIZES)}
    for name in LEARNERS
  }
  shifted = {
    name: {"explicit": _scores(5.0), "implicit": _scores(0.5)}
    for name in SHIFTS
  }
  zero = reference_score(np.r_[RNG.normal(size=50), 0] - 0)
  given = World(_scores(0.1), scores, zero, 1.5, 1e-3, shifted)
  return given._replace(**changes)


def test_claims_hold_for_good_numbers_and_fail_for_bad_ones():
  good = _world()
  assert all(claim.holds for claim in page.world_claims(good))
  flat = good.scores | {"preference model": dict.fromkeys(SIZES, _scores(0.1))}
  same = {
    name: dict.fromkeys(by, _scores(1)) for name, by in good.shifted.items()
  }
  for change, failing in (
    ({"scores": flat}, {1, 3, 4}),
    ({"shifted": same}, {5}),
    ({"reference": reference_score(np.full(9, 0.3))}, {2}),
  ):
    claims = page.world_claims(_world(**change))
    assert {i for i, claim in enumerate(claims) if not claim.holds} == failing


def test_the_page_has_all_models_and_the_figure_is_drawn():
  dialogues = Dialogues(_scores(1, real=True), _scores(0, real=True), 2000)
  assert page.dialogue_claims(dialogues)[0].finding
  world = _world()
  told = page.table(world, dialogues)
  assert told.count("\n| preference model") == 3 + 3 + 1
  assert told.count("\n| DPO, implicit") == 3 and told.count(" to ") == 4
  assert len(page.draw(world, dialogues).axes) == 3
  assert "hh-rlhf" not in page.table(world, None)
  assert len(page.draw(world, None).axes) == 2
