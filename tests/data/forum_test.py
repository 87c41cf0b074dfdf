"""Answers of forums: their votes become scores, and pairs of them."""

import json

import numpy as np
import pytest

from jalign import data
from jalign.data import forum
from jalign.errors import UserError


def _write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_scores_of_votes():
  votes = np.array([0, 1, 3, 7, 8, -1, -50])
  got = forum.forum_scores(votes)
  np.testing.assert_array_equal(got, [0, 1, 2, 3, 3, -1, -1])
  accepted = np.array([0, 1, 0, 0, 1, 1, 0], bool)
  np.testing.assert_array_equal(
    forum.forum_scores(votes, accepted), [0, 2, 2, 3, 4, 0, -1]
  )


def test_a_forums_rows(tmp_path):
  answers = [
    {"text": " a", "upvotes": 3, "accepted": True},
    {"text": " b", "upvotes": 7},
    {"text": " c", "upvotes": -2, "accepted": False},
    {"text": " d", "upvotes": None},
  ]
  path = _write(tmp_path / "a.jsonl", {"question": "Q?", "answers": answers})
  (record,), report = data.read("forum", path)
  assert record.scores == (3.0, 3.0, -1.0)
  assert report.parts() == {"unscored": [1]}
  pairs, report = data.convert("all_ordered", [record])
  assert [(p.chosen, p.rejected) for p in pairs] == [(" a", " c"), (" b", " c")]
  assert pairs[0].chosen_score - pairs[0].rejected_score == 4
  assert "1 whose scores tie" in report.summary()
  assert data.guess_source({"question": "Q?", "answers": []}) == "forum"
  other = {"prompt": "Q?", "responses": [
    {"response": " a", "votes": 1, "selected": 1},
    {"response": " b", "votes": 0},
  ]}  # fmt: skip
  assert data.read("forum", _write(path, other))[0][0].scores == (2.0, 0.0)


@pytest.mark.parametrize(
  "answer, said",
  [
    (" a", "an answer is a str"),
    ({"text": " a", "upvotes": 1, "accepted": "yes"}, "'accepted' is 'yes'"),
    ({"upvotes": 1}, "'text' is missing"),
  ],
)
def test_bad_answers_are_named(tmp_path, answer, said):
  good = {"text": " b", "upvotes": 1}
  row = {"question": "Q?", "answers": [good, good, answer]}
  path = _write(tmp_path / "a.jsonl", row)
  with pytest.raises(UserError, match=said) as caught:
    data.read("forum", path)
  assert caught.value.where == f"{path}:1"


def test_pairs_of_votes():
  record = data.RankedRecord("Q", ("a", "b", "c"), (7, 8, 0), "f:1", "Q")
  pairs, report = data.convert("votes", [record])
  assert [(p.chosen, p.rejected) for p in pairs] == [("a", "c"), ("b", "c")]
  assert [p.chosen_score for p in pairs] == [3, 3]
  assert "1 whose scores tie" in report.summary()
  pair = data.PreferenceRecord("a", "b", "c", "f:1", "a")
  with pytest.raises(UserError, match="votes.*doesn't take PreferenceRecords"):
    data.convert("votes", [pair])
