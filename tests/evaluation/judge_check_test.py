"""Statistics of judges with known biases; the exact shares are counted."""

import json

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.evaluation.judge_check import check_judge, numbers, warnings


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def test_an_order_effect_is_found_and_averaged_away():
  gap = np.array([3.0, 1.0, 0.5, -0.2, 0.2, -2.0])
  found = check_judge(_sigmoid(gap + 0.8), _sigmoid(gap - 0.8))
  assert found.order_effect == pytest.approx(0.8)
  # The verdicts of gaps between -.8 and .8 follow the place.
  assert found.conflict.mean == found.reversed.mean == pytest.approx(3 / 6)
  assert found.first_place.mean == pytest.approx((3 * 0.5 + 3) / 6)
  assert found.agreement_first.mean == pytest.approx(5 / 6)
  assert found.agreement_second.mean == pytest.approx(2 / 6)
  assert found.agreement.mean == pytest.approx(4 / 6)
  assert found.unanswered == 0 and found.both == found.pairs == 6


def test_means_are_clustered_by_prompt():
  p = np.array([1.0, 1.0, 1.0, 0.0])
  one = check_judge(p, p, groups=["a", "a", "a", "b"])
  assert one.prompts == 2
  assert one.agreement.mean == pytest.approx(0.5)  # of the prompts' means
  assert check_judge(p, p).agreement.mean == pytest.approx(0.75)
  assert one.order_effect is None  # verdicts have no log-odds
  low, high = one.agreement.interval
  assert 0 <= low < 0.5 < high <= 1


def test_a_question_without_answer_is_counted_and_left_out():
  nan = np.nan
  first, second = [0.9, nan, 0.2, nan], [0.8, 0.7, nan, nan]
  known = {"chosen_tokens": [5, 1, 1, 1], "rejected_tokens": [1, 5, 5, 5]}
  found = check_judge(first, second, groups=list("aabb"), **known)
  assert (found.pairs, found.unanswered, found.both) == (4, 4, 1)
  assert found.agreement.mean == 1 and found.length.pairs == 1
  with pytest.raises(UserError, match="none of 2 pairs in both orders"):
    check_judge([nan, 0.5], [0.5, nan])


def test_ties_and_conflicts_with_a_tie():
  found = check_judge([0.5, 0.5, 0.9], [0.5, 0.9, 0.1])
  assert found.tied.mean == pytest.approx(2 / 3)  # .5 and the mean of .9 and .1
  assert found.conflict.mean == pytest.approx(2 / 3)
  assert found.reversed.mean == pytest.approx(1 / 3)
  assert found.first_place.mean == pytest.approx((0.5 + 0.25 + 1) / 3)


def test_length_bias_stands_beside_the_labels():
  longer = np.array([3, 2, -1, -4, 1, -2])
  p = np.where(longer > 0, 0.8, 0.3)
  found = check_judge(
    p, p, chosen_tokens=10 + longer, rejected_tokens=np.full(6, 10)
  )
  assert found.length.scorer.mean == 1
  assert found.length.labels.mean == pytest.approx(0.5)
  assert found.length.difference.mean == pytest.approx(0.5)
  assert found.length.chosen_longer.mean == 1
  assert found.length.chosen_shorter.mean == 0
  assert sum(part.pairs for part in found.by_length) == 6


def test_soft_labels_count_as_they_are():
  found = check_judge([0.9, 0.9], [0.9, 0.9], labels=[0.7, 0.4])
  assert found.agreement.mean == pytest.approx(0.55)


def test_a_useless_judge_is_called_that():
  count = 200
  half, nine, one = (
    np.full(count, 0.5),
    np.full(count, 0.9),
    np.full(count, 0.1),
  )
  for first, second, words in (
    (half, half, "equally good"),
    (nine, one, "never about the response"),
    (one, nine, "never about the response"),
    (one, one, "contradicts the labels"),
    (nine, half, "prefers the place shown first"),
    (half, nine, "prefers the place shown second"),
  ):
    assert words in " ".join(warnings(check_judge(first, second))), words
  rng = np.random.default_rng(0)
  fair = rng.uniform(0.3, 1, count)
  assert warnings(check_judge(fair, fair)) == []


def test_bad_preferences_are_refused_and_numbers_are_json():
  with pytest.raises(UserError, match="not a probability"):
    check_judge([1.5], [0.5])
  with pytest.raises(UserError, match="two orders"):
    check_judge([0.5], [0.5, 0.5])
  with pytest.raises(UserError, match="two orders"):
    check_judge([], [])
  told = numbers(
    check_judge(
      [0.9, 0.2], [0.8, 0.3], chosen_tokens=[1, 2], rejected_tokens=[2, 1]
    )
  )
  assert json.loads(json.dumps(told))["agreement"]["mean"] == 0.5
  assert told["length"]["scorer"]["mean"] == 0.0
