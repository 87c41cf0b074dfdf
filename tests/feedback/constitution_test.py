"""Constitutions of the world's groups are recovered from their labels."""

import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.errors import UserError
from jalign.feedback import make_answers
from jalign.feedback.constitution import (
  Votes,
  ballots,
  decision_list,
  from_constitution,
  kept,
  of_factors,
  reconstructed,
  tally,
)
from tests.feedback.judged import judged

ATTRIBUTES = ("coverage", "hallucinations", "words", "sourced")


def _attributes(answers):
  return world.attributes(answers.prompts, answers.texts)._asdict()


PRINCIPLES = of_factors(_attributes, ATTRIBUTES)


def _labelled(group, posts, seed=None):
  """Pairs of all archetypes of some posts, labelled by a group of raters.

  The label is the verdict, or with a seed a draw from the group's preference.
  """
  prompts, a, b = [], [], []
  for i in posts:
    there = world.post(i)
    texts = [world.archetype(name, there) for name in world.ARCHETYPES]
    for j, x in enumerate(texts):
      for y in texts[:j]:
        prompts.append(there.text)
        a.append(x)
        b.append(y)
  p = world.annotator(world.GROUPS[group])(prompts, a, b)
  draw = 0.5 if seed is None else np.random.default_rng(seed).random(len(p))
  decided = p != 0.5
  first = p > draw
  chosen = [x if w else y for x, y, w in zip(a, b, first)]
  rejected = [y if w else x for x, y, w in zip(a, b, first)]
  return [
    make_answers(prompts, texts).take(np.flatnonzero(decided))
    for texts in (chosen, rejected)
  ], decided.mean()


# Shares of all pairs: for, against.
EXACT = {
  "coverage first": {"+coverage": (0.578, 0), "+words": (0.573, 0.355)},
  "brevity first": {"-words": (0.928, 0), "+coverage": (0.028, 0.550)},
  "faithfulness first": {
    "+sourced": (0.485, 0),
    "-hallucinations": (0.303, 0),
    "-words": (0.434, 0.494),
  },
}


@pytest.mark.parametrize("group", EXACT)
def test_votes_are_those_of_the_exact_table(group):
  pairs, share = _labelled(group, range(60))
  names = list(PRINCIPLES)
  votes = tally(names, ballots(PRINCIPLES, *pairs))
  count = len(pairs[0].texts)
  assert not votes.invalid.any()
  np.testing.assert_array_equal(
    votes.agree + votes.against + votes.silent, count
  )
  for name, (agree, against) in EXACT[group].items():
    at = names.index(name)
    found = np.array([votes.agree[at], votes.against[at]]) / count * share
    np.testing.assert_allclose(found, (agree, against), atol=0.012)
    assert (votes.against[at] == 0) == (against == 0)
  first = {
    "coverage first": ["+coverage"],
    "brevity first": ["-words"],
    "faithfulness first": ["+sourced", "-hallucinations"],
  }[group]
  assert kept(votes)[: len(first)] == first


@pytest.mark.parametrize("group", EXACT)
def test_a_constitution_reconstructs_what_the_raters_tremble_leaves(group):
  names = list(PRINCIPLES)
  train, _ = _labelled(group, range(30), seed=0)
  found = decision_list(names, ballots(PRINCIPLES, *train))
  assert found[0] == kept(tally(names, ballots(PRINCIPLES, *train)))[0]
  held_out, _ = _labelled(group, range(30, 60), seed=1)
  right = reconstructed(names, ballots(PRINCIPLES, *held_out), found)
  error = 4 * np.sqrt(0.05 * 0.95 / right.size)
  assert abs(right.mean() - 0.95) < error
  judge = from_constitution(PRINCIPLES, found, tremble=0.05)
  posts = held_out[0].prompts
  p = judged(judge, posts, *(side.texts for side in held_out))
  exact = world.annotator(world.GROUPS[group])(
    posts, *(side.texts for side in held_out)
  )
  assert np.mean(np.isclose(p, exact, rtol=1e-6)) > 0.99
  assert sum(judge.counts().values()) == len(p)


def test_the_filter_is_that_of_the_released_code():
  votes = Votes(
    tuple("abcdefg"),
    agree=np.array([5, 6, 3, 9, 2, 4, 0]),
    against=np.array([1, 0, 3, 8, 0, 1, 0]),
    silent=np.array([4, 4, 4, 0, 3, 1, 0]),
    invalid=np.array([0, 0, 0, 0, 5, 4, 9]),
  )
  # c is no more for than against; e and g are mostly invalid.
  assert kept(votes) == ["b", "a", "f", "d"]
  assert kept(votes, by_agreement=True) == ["d", "b", "a", "f"]
  assert kept(votes, most=2) == ["b", "a"]
  assert kept(votes, least_share=0.5) == ["b", "a", "d"]
  assert kept(votes, over_silent=True) == ["b", "a", "f", "d"]
  votes = votes._replace(silent=np.array([5, 4, 4, 0, 3, 1, 0]))
  assert "a" not in kept(votes, over_silent=True)


def test_a_principle_gains_nothing_by_the_order_and_may_be_invalid():
  count = 400
  prompts = [f"p{i}" for i in range(count)]
  chosen = make_answers(prompts, ["good"] * count)
  rejected = make_answers(prompts, ["bad"] * count)
  principles = {
    "first": lambda a, b: np.ones(count),
    "good": lambda a, b: [1 if x == "good" else -1 for x in a.texts],
    "mute": lambda a, b: [float("nan")] * count,
  }
  votes = tally(list(principles), ballots(principles, chosen, rejected))
  assert abs(votes.agree[0] - count / 2) < 4 * np.sqrt(count) / 2
  assert votes.agree[1] == count and votes.invalid[2] == count
  assert kept(votes)[0] == "good" and "mute" not in kept(votes)
  judge = from_constitution(principles, ["mute", "good"])
  assert judged(judge, prompts, chosen.texts, rejected.texts).min() == 1
  principles["bad"] = lambda a, b: [0.3] * count
  with pytest.raises(UserError, match=r"'bad'.*voted 0.3"):
    ballots(principles, chosen, rejected)
  with pytest.raises(UserError, match="Did you mean 'good'"):
    from_constitution(principles, ["goo"])
  with pytest.raises(UserError, match="no principles"):
    from_constitution(principles, [])


def test_a_decision_list_asks_only_about_what_is_left():
  votes = np.array(
    [
      [1, 1, 1, 0, 0, 0],
      [1, 1, 1, 1, -1, -1],
      [-1, -1, 0, -1, 1, 1],
      [0, 0, 0, 1, 0, 0],
    ]
  )
  found = decision_list("abcd", votes)
  assert found == ["a", "d", "c"]
  assert reconstructed("abcd", votes, found).tolist() == [1] * 6
  assert reconstructed("abcd", votes, ["a"]).tolist() == [
    1,
    1,
    1,
    0.5,
    0.5,
    0.5,
  ]
