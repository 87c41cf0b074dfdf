"""Conversions between kinds of records."""

import pytest

from jalign import data
from jalign.errors import UserError

LIST = data.RankedRecord("p", ("a", "b", "c", "d"), (1, 3, 1, 2), "f:4", "g")
TIED = data.RankedRecord("q", ("a", "b"), (1, 1), "f:5", "h")
SAME = data.RankedRecord("q", ("a", "a"), (2, 1), "f:6", "h")
PAIR = data.PreferenceRecord("p", "a", "b", "f:7", "g")


def test_best_and_worst():
  (pair,), report = data.best_and_worst([LIST, TIED, SAME])
  assert (pair.prompt, pair.chosen, pair.rejected) == ("p", "b", "c")
  assert (pair.chosen_score, pair.rejected_score) == (3, 1)
  assert (pair.source, pair.group) == ("f:4#2-3", "g")
  assert (report.read, report.used) == (3, 1)
  assert report.lines() == {"identical": [6], "tie": [5]}


def test_all_ordered():
  pairs, report = data.all_ordered([LIST, TIED])
  assert {(p.chosen, p.rejected) for p in pairs} == {
    ("b", "a"),
    ("b", "c"),
    ("b", "d"),
    ("d", "a"),
    ("d", "c"),
  }
  assert len({p.source for p in pairs}) == 5  # caches are keyed by source
  assert report.lines() == {"tie": [4, 5]} and report.read == 7
  assert report.summary() == (
    "read 7 pairs, used 5, skipped 2: 2 whose scores tie (lines 4, 5)"
  )


def test_labels():
  labels = data.label_by_score([LIST], 2)
  assert [r.desirable for r in labels] == [False, True, False, True]
  assert [r.source for r in labels] == ["f:4#1", "f:4#2", "f:4#3", "f:4#4"]
  with pytest.raises(UserError, match="threshold is nan"):
    data.label_by_score([LIST], float("nan"))
  good, bad = data.label_by_side([PAIR])
  assert (good.response, good.desirable) == ("a", True)
  assert (bad.response, bad.desirable) == ("b", False)
  assert good.source != bad.source and good.group == bad.group == "g"


def test_demonstrations():
  (chosen,) = data.chosen_demonstrations([PAIR])
  assert (chosen.prompt, chosen.response, chosen.source) == ("p", "a", "f:7")
  best, tied = data.best_demonstrations([LIST, TIED])
  assert (best.response, tied.response) == ("b", "a")
