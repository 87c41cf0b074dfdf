"""A judge that gives no answer: NaN is kept, counted, and never a tie."""

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.evaluation.best_of_n import best_of_n
from jalign.feedback import (
  Judge,
  assess,
  compare,
  from_batch,
  from_rewards,
  make_answers,
  on_tokens,
  reward_statistics,
)
from jalign.feedback.counts import Tally, say_counts
from jalign.types import Sequences
from tests.feedback.judged import judged

NAN = float("nan")


def _some(values):
  return from_batch(lambda prompts, a, b: values)._replace(answers_all=False)


def test_a_pair_without_an_answer_is_nan():
  got = judged(_some([0.25, NAN, 1.0]), [*"pqr"], [*"abc"], [*"def"])
  np.testing.assert_array_equal(got, np.float32([0.25, NAN, 1.0]))


def test_a_missing_reward_gives_no_preference():
  rewards = {"a": 1.0, "b": NAN, "c": 0.0}
  judge = from_rewards(lambda p, texts, rows: [rewards[x] for x in texts])
  judge = judge._replace(answers_all=False)
  got = judged(judge, [*"ppp"], [*"aca"], [*"bac"])
  assert np.isnan(got[0])
  np.testing.assert_allclose(got[1] + got[2], 1, rtol=1e-6)


@pytest.mark.parametrize(
  "judge",
  [
    from_batch(lambda prompts, a, b: [NAN] * len(a)),
    from_rewards(lambda prompts, texts, rows: [NAN] * len(texts)),
  ],
)
def test_a_judge_that_answers_all_may_not_give_nan(judge):
  with pytest.raises(UserError, match="nan"):
    judged(judge, ["p"], ["a"], ["b"])


@pytest.mark.parametrize("bad", [float("inf"), 1.5, -0.1])
def test_only_nan_stands_for_no_answer(bad):
  with pytest.raises(UserError):
    judged(_some([bad, 0.5]), [*"pq"], [*"ab"], [*"cd"])
  judge = from_rewards(lambda p, texts, rows: [np.inf] * len(texts))
  with pytest.raises(UserError, match="inf"):
    assess(judge._replace(answers_all=False), make_answers(["p"], ["a"]))


def test_a_judge_that_answers_nothing_is_an_error():
  with pytest.raises(UserError, match="none of 2 pairs"):
    judged(_some([NAN, NAN]), [*"pq"], [*"ab"], [*"cd"])
  judge = from_rewards(lambda p, texts, rows: [NAN] * len(texts))
  with pytest.raises(UserError, match="none of 1 responses"):
    assess(judge._replace(answers_all=False), make_answers(["p"], ["a"]))


def test_numbers_on_devices_may_be_missing_too():
  sequences = Sequences(
    np.ones((2, 3), np.int32), np.ones((2, 3), bool), np.full(2, 3, np.int32)
  )
  judge = on_tokens(lambda s: jax.numpy.array([1.0, NAN]))
  answers = make_answers([*"pq"], [*"ab"], sequences=sequences)
  some = assess(judge._replace(answers_all=False), answers)
  np.testing.assert_array_equal(some.numbers("reward"), [1.0, NAN])
  with pytest.raises(UserError, match="nan"):
    assess(judge, answers).numbers("reward")


def test_statistics_leave_missing_rewards_out():
  """Prompt 0 has rewards 1, 3; prompt 1 has 5 and one without an answer."""
  given = [1.0, 3.0, 5.0, NAN]
  judge = from_rewards(lambda p, texts, rows: given)
  judge = judge._replace(answers_all=False)
  told = assess(judge, make_answers([*"ppqq"], [*"abcd"]))
  got = reward_statistics(told, [0, 0, 1, 1])
  assert got["reward_mean"] == 3 and got["reward_std"] == 2
  np.testing.assert_allclose(got["reward_std_within_prompt"], 2**0.5)
  part = told.take([2, 3])
  assert not part.answers_all
  assert reward_statistics(part, [1, 1]) == {"reward_mean": 5.0}


def test_best_of_n_averages_over_the_judgements_that_were_made():
  """c beats a and has no answer with b; b beats a; a response loses to both."""
  wins = {("c", "a"): 1.0, ("b", "a"): 0.9, ("c", "b"): NAN}

  def prefer(a, b):
    found = lambda x, y: wins.get((x, y), 1 - wins.get((y, x), NAN))
    return [found(x, y) for x, y in zip(a, b)]

  assert best_of_n([*"abc"], 3, prefer).tolist() == [2]
  never = lambda a, b: [NAN] * len(a)
  assert best_of_n([*"abc"], 3, never).tolist() == [0]
  only = lambda a, b: [0.1 if "c" in (x, y) else NAN for x, y in zip(a, b)]
  # b was never compared, so that a, which lost once, is picked before b.
  assert best_of_n([*"bac"], 3, lambda a, b: [
    NAN if "b" in (x, y) else only([x], [y])[0] for x, y in zip(a, b)
  ]).tolist() == [1]  # fmt: skip


def test_counts_are_said_in_one_line(capsys):
  tally = Tally()
  tally.add({"pairs": 2, "unparsable": 0})
  tally.add({"pairs": 1234, "calls": 3})
  say_counts(Judge(counts=tally.counts), "[judge]")
  assert capsys.readouterr().out == "[judge] pairs 1,236, calls 3\n"
  say_counts(Judge(counts=Tally().counts))
  say_counts(Judge())
  say_counts(None)
  assert capsys.readouterr().out == ""


def test_compare_keeps_the_answers_of_a_judge_with_rewards_and_preferences():
  both = from_rewards(lambda p, texts, rows: [0.0] * len(texts))._replace(
    preference=_some([NAN, 0.75]).preference, answers_all=False
  )
  sides = [assess(both, make_answers([*"pq"], [*x])) for x in ("ab", "cd")]
  np.testing.assert_array_equal(compare(both, *sides), np.float32([NAN, 0.75]))
