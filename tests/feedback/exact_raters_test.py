"""A language model that answers from the world's exact raters."""

import re

import numpy as np

from jalign import data
from jalign.data.tldr_world import raters
from jalign.feedback import assess, make_answers
from jalign.feedback.completions import Completion, LanguageModel
from jalign.feedback.counts import Tally
from jalign.feedback.language_model import from_language_model
from jalign.feedback.parsing import RATING, VERDICT
from jalign.feedback.prompts import load_prompt
from tests.feedback.judged import judged

K = 8
PAIR = re.compile(
  r"\[Message\]\n(.*)\n\n\[Answer A\]\n(.*)\n\[End of answer A\]\n\n"
  r"\[Answer B\]\n(.*)\n\[End of answer B\]",
  re.DOTALL,
)
ONE = re.compile(
  r"\[Message\]\n(.*)\n\n\[Answer\]\n(.*)\n\[End of the answer\]", re.DOTALL
)


def _pairs(count=24):
  records, _ = data.read("tldr_world", f"preferences[:{count}]")
  return (
    [r.prompt for r in records],
    [r.chosen for r in records],
    [r.rejected for r in records],
  )


def _stratified(favour):
  """A model whose k-th answer is [[A]] where P(A) is above (k + 1/2) / K.

  The mean over K answers is then within 1 / (2K) of P.

  Args:
    favour: subtracted from the threshold: how much the first place is favoured.
  """

  def complete(questions):
    sides = [PAIR.search(q.messages[1][1]).groups() for q in questions]
    chances = raters.population(*map(list, zip(*sides)))
    for i, (q, p) in enumerate(zip(questions, chances)):
      above = p > (q.sample + 0.5) / K - favour
      yield i, Completion(f"Because. [[{'A' if above else 'B'}]]")

  return LanguageModel(complete, {}, Tally())


def test_many_verdicts_give_the_populations_preferences():
  prompts, a, b = _pairs()
  judge = from_language_model(
    _stratified(0.0), load_prompt("pair_1"), VERDICT, samples=K
  )
  exact = raters.population(prompts, a, b)
  got = judged(judge, prompts, a, b)
  assert np.abs(got - exact).max() <= 1 / (2 * K) + 1e-6
  assert judge.counts()["pairs"] == len(prompts)


def test_a_favoured_place_cancels_where_no_probability_is_clipped():
  """The first place gets 1/8 more in both orders; the averages are the same."""
  prompts, a, b = _pairs()
  judge = from_language_model(
    _stratified(1 / K), load_prompt("pair_1"), VERDICT, samples=K
  )
  exact = raters.population(prompts, a, b)
  inside = np.abs(exact - 0.5) < 0.5 - 2 / K
  assert inside.sum() > 2
  got = judged(judge, prompts, a, b)
  assert np.abs(got - exact)[inside].max() <= 1 / K + 1e-6


def test_ratings_from_1_to_7_rank_as_the_gold_reward():
  prompts, a, b = _pairs()
  gold = [raters.gold_reward(*x) for x in zip(prompts * 2, a + b)]
  low, high = min(gold), max(gold)
  grade = lambda r: 1 + round(6 * (r - low) / (high - low))

  def complete(questions):
    for i, q in enumerate(questions):
      reward = raters.gold_reward(*ONE.search(q.messages[1][1]).groups())
      yield i, Completion(f"[[{grade(reward)}]]")

  model = LanguageModel(complete, {}, Tally())
  judge = from_language_model(model, load_prompt("rating_1"), RATING)
  told = assess(judge, make_answers(prompts * 2, a + b))
  np.testing.assert_array_equal(told.numbers("reward"), [*map(grade, gold)])
  order = np.argsort(gold)
  assert (np.diff(told.numbers("reward")[order]) >= 0).all()


def test_the_world_has_pairs_of_all_kinds():
  """So that the tests above see certain and uncertain preferences."""
  exact = raters.population(*_pairs())
  assert exact.min() < 0.4 and exact.max() > 0.9 and (exact == 0.5).any()
