"""Records that are relabelled by a goal."""

import dataclasses
import math

import numpy as np
import pytest

from jalign import data, losses
from jalign.errors import UserError

PAIR = data.PreferenceRecord("p", "a", "b", "f:7", "g", 0.9, 2.5, 1.0)


def scored(high, low, line=8):
  return data.PreferenceRecord("q", "a", "b", f"f:{line}", "h", None, high, low)


def test_reward_augmented():
  (first, second), report = data.reward_augmented([PAIR])
  assert (first.chosen, first.rejected) == ("a", "b")
  assert (second.chosen, second.rejected) == ("b", "a")
  assert first.prompt == "Write a response of score 2.5.\n\np"
  assert second.prompt == "Write a response of score 1.\n\np"
  for record in (first, second):
    assert (record.chosen_score, record.rejected_score) == (0.0, -2.25)
    assert record.group == "g" and record.preference is None
  assert (first.source, second.source) == ("f:7#chosen", "f:7#rejected")
  assert report.summary() == "read 1 pairs, used 1 (2 records)"


def test_a_goal_stands_before_no_mark_of_a_template():
  chat = dataclasses.replace(PAIR, prompt="<user>p<assistant>", end="")
  with pytest.raises(
    UserError, match="f:7: .*before the template.s first mark"
  ):
    data.reward_augmented([PAIR, chat])


def test_what_reward_augmented_skips():
  records = [PAIR, scored(1.0, 1.0), scored(0, 1, 9), scored(None, 1, 10)]
  pairs, report = data.reward_augmented(records)
  assert len(pairs) == 2 and (report.read, report.used) == (4, 1)
  assert report.lines() == {"missing": [10], "tie": [8], "contradicted": [9]}
  assert "1 whose scores contradict the preference (line 9)" in report.summary()


def test_forms():
  (first, _), _ = data.reward_augmented([PAIR], "{prompt} [{goal:.2f}]")
  assert first.prompt == "p [2.50]"
  braces = data.PreferenceRecord("{x}", "a", "b", "f:1", "g", None, 2.0, 1.0)
  (first, _), _ = data.reward_augmented([braces], "{goal}: {prompt}")
  assert first.prompt == "2.0: {x}"
  for bad in (
    "{prompt}",
    "{goal}",
    "{prompt} {goal} {x}",
    "{prompt {goal}",
    "{} {prompt} {goal}",
  ):
    with pytest.raises(UserError, match="the form"):
      data.reward_augmented([PAIR], bad)


def test_as_a_conversion():
  pairs, report = data.convert("reward_augmented", [PAIR])
  assert len(pairs) == 2 and report.records == 2
  ranked = data.RankedRecord("p", ("a", "b"), (1, 2), "f:1", "g")
  with pytest.raises(UserError, match="doesn't take RankedRecords"):
    data.convert("reward_augmented", [ranked])
  with pytest.raises(UserError, match="leaves no record .*tie"):
    data.convert("reward_augmented", [scored(1.0, 1.0)])


def test_without_the_goal_the_two_cancel():
  """The losses are then twice DPO's with half of the labels flipped."""
  logps = {"a": np.array([-3.0, -4.0]), "b": np.array([-5.0, -3.5])}
  total = sum(
    losses.dpo(*(logps[side][i : i + 1] for i in (0, 1) for side in sides))
    for sides in [
      (r.chosen, r.rejected) for r in data.reward_augmented([PAIR])[0]
    ]
  )
  c, r, rc, rr = (logps[side][i : i + 1] for i in (0, 1) for side in "ab")
  even = losses.dpo(c, r, rc, rr, label_smoothing=0.5)
  np.testing.assert_allclose(total, 2 * even, rtol=1e-6)


REWARDS = [(1.0, 5.0), (3.0, 0.0), (2.5, 2.0), (3.0, 1.0)]


def test_directional_choice():
  by_first = data.directional_choice("p", REWARDS, (1.0, 0.0))
  assert by_first == (1, "Maximise 100 * helpfulness + 0 * verbosity.\n\np")
  assert data.directional_choice("p", REWARDS, (0.0, -1.0))[0] == 1
  assert data.directional_choice("p", REWARDS, (0, 2))[0] == 0
  angle = math.radians(30)
  direction = (math.cos(angle), math.sin(angle))
  index, prompt = data.directional_choice("p", REWARDS, direction)
  along = np.array(REWARDS) @ np.array(direction)
  assert index == along.argmax()
  assert prompt == data.directional_prompt("p", direction)
  assert prompt.startswith("Maximise 87 * helpfulness + 50 * verbosity.")
  scaled = [(7 * a, 7 * b) for a, b in REWARDS]
  assert data.directional_choice("p", scaled, direction) == (index, prompt)
  form = "{prompt}|{first}|{second}"
  assert data.directional_prompt("p", (3, -4), form) == "p|60|-80"


@pytest.mark.parametrize(
  "rewards, direction, problem",
  [
    ([], (1, 0), "no responses"),
    ([(1.0,)], (1, 0), "two finite rewards"),
    ([(1.0, math.nan)], (1, 0), "two finite rewards"),
    (REWARDS, (0, 0), "no direction"),
    (REWARDS, (1, 0, 0), "no direction"),
    (REWARDS, (math.inf, 0), "no direction"),
  ],
)
def test_what_has_no_direction(rewards, direction, problem):
  with pytest.raises(UserError, match=problem):
    data.directional_choice("p", rewards, direction)
