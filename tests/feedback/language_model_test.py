"""Judges that are language models, on exact answers of plain functions."""

import itertools
import math

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import assess, compare, make_answers
from jalign.feedback.completions import (
  Completion,
  LanguageModel,
  from_function,
)
from jalign.feedback.counts import Tally
from jalign.feedback.language_model import (
  ask_pairs,
  averaged,
  from_language_model,
)
from jalign.feedback.parsing import RATING, SCORES, VERDICT, Reader
from jalign.feedback.prompts import PROMPTS, load_prompt, parse_prompt
from tests.feedback.judged import judged

NAN = float("nan")
PAIR = parse_prompt("{prompt}|{a}|{b}")
ONE = parse_prompt("{prompt}|{response}")


def _model(answer):
  """A language model that answers from (prompt, response, ...)."""
  return from_function(
    lambda texts: [answer(*text.split("|")) for text in texts], "exact"
  )


def _verdict(values):
  """Answers [[A]], [[B]] or [[C]] by the responses' values."""

  def answer(prompt, a, b):
    order = (values[a] > values[b]) - (values[a] < values[b])
    return f"[[{'CAB'[order]}]]"

  return _model(answer)


def test_a_fair_model_gives_its_verdicts():
  judge = from_language_model(_verdict({"x": 2, "y": 1, "z": 1}), PAIR, VERDICT)
  got = judged(judge, [*"pppp"], [*"xyyz"], [*"yxzz"])
  np.testing.assert_array_equal(got, [1, 0, 0.5, 0.5])
  assert judge.counts() == {
    "pairs": 4,
    "pairs of equal texts": 1,
    "ties": 1,
    "calls": 4,  # x and y in both orders, y and z in both orders
  }


def test_a_model_that_prefers_a_place_gives_ties():
  judge = from_language_model(_model(lambda p, a, b: "[[A]]"), PAIR, VERDICT)
  np.testing.assert_array_equal(judged(judge, ["p"], ["x"], ["y"]), [0.5])
  counts = judge.counts()
  assert counts["pairs whose orders disagree"] == 1 and counts["ties"] == 1


def test_an_answer_that_cant_be_read_drops_the_pair():
  """Whichever order can't be read; a tie would be 1/2."""

  def answer(prompt, a, b):
    return "I can't say" if (a, b) in (("x", "y"), ("z", "x")) else "[[A]]"

  judge = from_language_model(_model(answer), PAIR, VERDICT)
  got = judged(judge, [*"ppp"], [*"xyx"], [*"yzz"])
  np.testing.assert_array_equal(got, [NAN, 0.5, NAN])
  counts = judge.counts()
  assert counts["pairs without an answer"] == 2
  assert counts["answers not read"] == 2
  assert counts["ties"] == counts["pairs whose orders disagree"] == 1
  none = from_language_model(_model(lambda *x: "?"), PAIR, VERDICT)
  with pytest.raises(UserError, match="none of 1 pairs"):
    judged(none, ["p"], ["x"], ["y"])


def _sampled(answers):
  """A model that answers from (text -> text of each sample)."""

  def complete(questions):
    for i, q in enumerate(questions):
      yield i, Completion(answers[q.text][q.sample])

  return LanguageModel(complete, {}, Tally())


def test_several_samples_are_averaged_within_each_order():
  """P = ((1 + 1 + 0)/3 + (1 - 1/2))/2, the unread answers left out."""
  answers = {
    "p|x|y": ["[[A]]", "[[A]]", "[[B]]"],
    "p|y|x": ["?", "[[C]]", "?"],
  }
  sides = [make_answers(["p"], [x]) for x in "xy"]
  evidence = ask_pairs(_sampled(answers), PAIR, VERDICT, *sides, samples=3)
  np.testing.assert_array_equal(
    evidence.preference, [[[1, 1, 0], [NAN, 0.5, NAN]]]
  )
  np.testing.assert_allclose(averaged(evidence), [(2 / 3 + 1 / 2) / 2])
  judge = from_language_model(_sampled(answers), PAIR, VERDICT, samples=3)
  np.testing.assert_allclose(judged(judge, ["p"], ["x"], ["y"]), [7 / 12])
  assert judge.counts()["answers not read"] == 2


def test_scores_are_averaged_over_both_orders_before_they_are_compared():
  """A place bonus of 2 hides the better response in each order's verdict."""
  true = {"x": 5.0, "y": 6.0}

  def answer(prompt, a, b):
    return f"Scores: {true[a] + 2}, {true[b]}"

  sides = [make_answers(["p"], [x]) for x in "xy"]
  evidence = ask_pairs(_model(answer), PAIR, SCORES, *sides)
  np.testing.assert_array_equal(evidence.preference, [[[1], [0]]])
  np.testing.assert_array_equal(evidence.scores, [[[[7, 6]], [[5, 8]]]])
  np.testing.assert_array_equal(averaged(evidence), [0])
  judge = from_language_model(_model(answer), PAIR, SCORES)
  np.testing.assert_array_equal(judged(judge, ["p"], ["y"], ["x"]), [1])
  assert judge.counts()["pairs whose orders disagree"] == 1


def test_an_order_without_scores_drops_the_pair():
  answer = lambda p, a, b: "Scores: 3, 4" if a == "x" else "Scores: 30, 4"
  judge = from_language_model(_model(answer), PAIR, SCORES)
  got = judged(judge, [*"pp"], [*"xz"], ["y", "z"])
  np.testing.assert_array_equal(got, [NAN, 0.5])


def test_soft_verdicts_average_the_probabilities_of_both_orders():
  """.8 for the first and .4 for the first when swapped: .70."""
  chance = {"p|x|y": 0.8, "p|y|x": 0.4}

  def complete(questions):
    for i, q in enumerate(questions):
      p = chance[q.text] / 2  # other tokens have the other half
      logps = {"A": math.log(p), "B": math.log(0.5 - p), "D": -1.0}
      yield i, Completion("[[A]]", label_logps=logps)

  model = LanguageModel(complete, {}, Tally())
  judge = from_language_model(model, PAIR, VERDICT, soft=True)
  got = judged(judge, ["p"], ["x"], ["y"])
  np.testing.assert_allclose(got, [0.70], rtol=1e-6)
  np.testing.assert_allclose(
    judged(judge, ["p"], ["y"], ["x"]), [0.30], rtol=1e-6
  )


def test_a_soft_verdict_counts_half_of_a_ties_probability():
  """p(A, B, C) = (.2, .1, .1) for x first and (.1, .1, .2) for y first."""
  shares = {"p|x|y": (0.2, 0.1, 0.1), "p|y|x": (0.1, 0.1, 0.2)}

  def complete(questions):
    for i, q in enumerate(questions):
      logps = dict(zip("ABC", np.log(shares[q.text])))
      yield i, Completion("[[C]]", label_logps=logps)

  model = LanguageModel(complete, {}, Tally())
  judge = from_language_model(model, PAIR, VERDICT, soft=True)
  want = (0.25 / 0.4 + 1 - 0.2 / 0.4) / 2
  np.testing.assert_allclose(judged(judge, ["p"], ["x"], ["y"]), [want])


def test_a_soft_verdict_must_be_readable():
  def complete(questions):
    for i, q in enumerate(questions):
      text = "[[A]] [[B]]" if q.text == "p|x|y" else "[[A]]"
      yield i, Completion(text, label_logps={"A": -0.5, "B": -1.0})

  model = LanguageModel(complete, {}, Tally())
  judge = from_language_model(model, PAIR, VERDICT, soft=True)
  got = judged(judge, [*"pq"], [*"xx"], [*"yy"])
  np.testing.assert_array_equal(got, [NAN, 0.5])


@pytest.mark.parametrize("logps", [{}, {"x": -1.0}, {"A": -math.inf}])
def test_a_soft_verdict_without_any_label_is_no_answer(logps):
  def complete(questions):
    for i, q in enumerate(questions):
      known = {"A": -0.5} if q.text.startswith("q") else logps
      yield i, Completion("[[A]]", label_logps=known)

  model = LanguageModel(complete, {}, Tally())
  judge = from_language_model(model, PAIR, VERDICT, soft=True)
  got = judged(judge, [*"pq"], [*"xx"], [*"yy"])
  np.testing.assert_array_equal(got, [NAN, 0.5])


def test_a_soft_verdict_needs_log_probs():
  judge = from_language_model(
    _verdict({"x": 1, "y": 2}), PAIR, VERDICT, soft=True
  )
  with pytest.raises(UserError, match="no log-probs"):
    judged(judge, ["p"], ["x"], ["y"])


def test_ratings_are_rewards():
  """The mean of what can be read; nothing read is no answer."""
  answers = {
    "p|x": ["[[6]]", "[[5]]"],
    "p|y": ["[[3]]", "oops"],
    "p|z": ["oops", "[[9]]"],
  }
  judge = from_language_model(
    _sampled(answers), ONE, RATING, samples=2, scale=0.5
  )
  told = assess(judge, make_answers([*"ppp"], [*"xyz"]))
  np.testing.assert_array_equal(told.numbers("reward"), [5.5, 3, NAN])
  got = compare(judge, told.take([0, 0]), told.take([1, 2]))
  np.testing.assert_allclose(
    got, [1 / (1 + math.exp(-0.5 * 2.5)), NAN], rtol=1e-6
  )
  counts = judge.counts()
  assert counts["responses"] == 3 and counts["responses without an answer"] == 1
  assert counts["answers not read"] == 3


def test_a_prompt_shows_columns_of_the_row():
  prompt = parse_prompt("{prompt}|{rubric}|{response}")
  model = _model(lambda p, rubric, y: "[[7]]" if rubric == y else "[[1]]")
  judge = from_language_model(model, prompt, RATING)
  rows = [{"rubric": "x"}, {"rubric": "y"}]
  told = assess(judge, make_answers([*"pp"], [*"xx"], rows))
  np.testing.assert_array_equal(told.numbers("reward"), [7, 1])
  with pytest.raises(UserError, match="judge_columns"):
    assess(judge, make_answers(["p"], ["x"], [{"rubric": None}]))


def test_an_additive_place_bias_is_removed_from_scores_in_expectation():
  """With noisy scores, the average over both orders has no bias.

  s(a) = q(a) + .8 [a first] + noise: averaging four equally likely noises of
  each order, the mean difference of both orders is q(a) - q(b) exactly.
  """
  q, bias, noises = {"x": 3.0, "y": 2.5}, 0.8, (-0.4, 0.4)
  rows = [*itertools.product(noises, noises)]
  answers = {
    f"p|{a}|{b}": [f"Scores: {q[a] + bias + e}, {q[b] + f}" for e, f in rows]
    for a, b in (("x", "y"), ("y", "x"))
  }
  sides = [make_answers(["p"], [x]) for x in "xy"]
  evidence = ask_pairs(_sampled(answers), PAIR, SCORES, *sides, samples=4)
  means = evidence.scores.mean((0, 1, 2))
  np.testing.assert_allclose(means[0] - means[1], 0.5, atol=1e-12)
  first = evidence.scores[0, 0].mean(0)
  np.testing.assert_allclose(first[0] - first[1], 1.3, atol=1e-12)


@pytest.mark.parametrize(
  ("prompt", "reader", "options"),
  [
    (PAIR, RATING, {}),
    (ONE, VERDICT, {}),
    (PAIR, VERDICT, {"samples": 0}),
    (PAIR, SCORES, {"soft": True}),
    (PAIR, Reader(float, True), {"soft": True}),
    (ONE, RATING, {"scale": 0}),
  ],
)
def test_options_that_dont_fit(prompt, reader, options):
  with pytest.raises(UserError):
    from_language_model(_model(str), prompt, reader, **options)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_of_the_library_judges(name):
  """A model that reads its prompt and prefers the longer response."""
  prompt, reader = load_prompt(name), PROMPTS[name]
  said = {
    "pair_1": ("[[A]]", "[[B]]"),
    "alpaca_1": ("m", "M"),
    "scores_1": ("Scores: 8, 2", "Scores: 2, 8"),
    "rating_1": ("[[7]]", "[[1]]"),
    "additive_1": ("Score: 5", "Score: 0"),
  }[name]

  def answer(texts):
    if not reader.pairs:
      return [said["longer" not in text] for text in texts]
    return [said[text.index("longer") > text.index("tiny")] for text in texts]

  judge = from_language_model(from_function(answer), prompt, reader)
  got = judged(judge, ["p"] * 2, ["longer", "tiny"], ["tiny", "longer"])
  assert got[0] > 0.95 and got[1] < 0.05
