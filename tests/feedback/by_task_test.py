"""A judge for each task, by a column of the data."""

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import (
  assess,
  compare,
  from_preference,
  from_reward,
  make_answers,
)
from jalign.feedback.by_task import by_task

LONG = from_reward(lambda prompt, response: len(response))
SHORT = from_reward(lambda prompt, response: -len(response))


def _answers(texts, tasks, column="task"):
  rows = [{column: task} for task in tasks]
  return make_answers(["x"] * len(texts), texts, rows)


def test_each_response_is_judged_by_its_tasks_judge():
  judge = by_task({"tell": LONG, "sum up": SHORT})
  tasks = ["tell", "sum up", "tell"]
  a = assess(judge, _answers(["aaa", "aa", "a"], tasks))
  np.testing.assert_array_equal(a.numbers("reward"), [3, -2, 1])
  b = assess(judge, _answers(["a", "a", "a"], tasks))
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  np.testing.assert_allclose(
    compare(judge, a, b), sigmoid(np.array([2, -1, 0])), rtol=1e-6
  )


def test_every_judge_keeps_its_own_scale_and_preference():
  sharp = LONG._replace(scale=5.0)
  first = from_preference(lambda prompt, a, b: 0.9)
  tasks, column = ["tell", "other"], "kind"
  a, b = (_answers(texts, tasks, column) for texts in (["aa"] * 2, ["a"] * 2))
  judge = by_task({"tell": LONG, "other": sharp}, column=column)
  sides = [assess(judge, side) for side in (a, b)]
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  np.testing.assert_allclose(
    compare(judge, *sides), [sigmoid(1.0), sigmoid(5.0)], rtol=1e-6
  )
  judge = by_task({"tell": LONG, "other": first}, column=column)
  assert judge.reward is None
  sides = [assess(judge, side) for side in (a, b)]
  np.testing.assert_allclose(
    compare(judge, *sides), [sigmoid(1.0), 0.9], rtol=1e-6
  )


def test_rows_without_a_judge_are_refused():
  judge = by_task({"tell": LONG})
  with pytest.raises(UserError, match="'sing'.*no judge") as error:
    assess(judge, _answers(["a"], ["sing"]))
  assert "tell" in error.value.remedy
  with pytest.raises(UserError, match="None"):
    assess(judge, _answers(["a"], ["tell"], column="another"))
