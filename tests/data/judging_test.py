"""Pairs as demonstrations of judges: verdicts and rewrites."""

import dataclasses

import pytest

from jalign import data
from jalign.data import judging
from jalign.errors import UserError


def _pairs(count):
  return [
    data.PreferenceRecord(f"q{i}", f" good {i}", f" bad {i}", f"f:{i}", f"g{i}")
    for i in range(count)
  ]


def test_the_verdict_names_the_chosen_response():
  records, report = data.convert("verdicts", _pairs(200))
  assert report is None and len(records) == 200
  firsts = 0
  for i, record in enumerate(records):
    sides = [f" good {i}", f" bad {i}"]
    first = record.response == " A"
    firsts += first
    a, b = sides if first else sides[::-1]
    assert record.prompt == (
      f"q{i}\n\nResponse A: {a}\n\nResponse B: {b}\n\nVerdict:"
    )
    assert record.response in (" A", " B")
    assert (record.source, record.group) == (f"f:{i}", f"g{i}")
  assert 70 < firsts < 130
  # A pair's order depends on the pair alone.
  assert data.convert("verdicts", _pairs(200)[::-1])[0] == records[::-1]


def test_traces_come_before_the_verdict():
  plain = judging.verdicts(_pairs(8))
  traced = judging.verdicts(_pairs(8), [f"because {i}." for i in range(8)])
  for i, (a, b) in enumerate(zip(plain, traced)):
    assert a.prompt == f"{b.prompt}Verdict:"
    assert b.response == f"because {i}. Verdict:{a.response}"


def test_rewrites_correct_and_keep():
  records, _ = data.convert("rewrites", _pairs(2))
  assert [r.response for r in records] == [" good 0"] * 2 + [" good 1"] * 2
  assert records[0].prompt == "q0\n\nResponse:  bad 0\n\nBetter:"
  assert records[1].prompt == "q0\n\nResponse:  good 0\n\nBetter:"
  assert len({r.source for r in records}) == 4
  assert records[0].prompt == judging.rewrite_prompt("q0", " bad 0")


@pytest.mark.parametrize("name", ["verdicts", "rewrites"])
def test_templated_pairs_are_refused(name):
  pair = dataclasses.replace(_pairs(1)[0], end="<end>")
  with pytest.raises(UserError, match="chat template wrote"):
    data.convert(name, [pair])
  braces = dataclasses.replace(_pairs(1)[0], chosen="{prompt} {x}")
  assert "{prompt} {x}" in data.convert(name, [braces])[0][-1].prompt
