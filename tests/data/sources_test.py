"""Readers: counts, errors that name line and remedy, and the split."""

import gzip
import inspect
import json
import random

import pytest

from jalign import data
from jalign.errors import UserError

GOOD = {"prompt": "Hi?", "chosen": " Hello.", "rejected": " Go."}
START = "\n\nHuman: a\n\nAssistant:"


def _write(path, *rows):
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


def _hh(chosen, rejected):
  return {"chosen": chosen, "rejected": rejected}


def test_hh_counts(shared):
  records, report = data.read_hh(
    shared / "data" / "hh_harmless_base_test.jsonl.gz"
  )
  assert report.summary() == (
    "read 2312 pairs, used 2303, skipped 9: 4 with an empty response (lines "
    "87, 517, 926, 1104), 5 whose transcripts diverge (lines 1255, 1689, "
    "1951, 1953, 2037)"
  )
  assert len(records) == report.used
  assert all(r.prompt.endswith("\n\nAssistant:") for r in records)
  assert records[0].group == "what are some pranks with a pen i can do?"
  assert records[0].chosen.startswith(" No, sorry!  All of these involve")
  assert records[-1].source.endswith("hh_harmless_base_test.jsonl.gz:2312")
  json.dumps(report.to_dict())
  train, evaluation = data.split(records, 0.1, seed=0)
  assert not {r.group for r in train} & {r.group for r in evaluation}
  assert len(train) + len(evaluation) == 2303
  assert len({r.group for r in records}) < 2303  # so some pairs share a prompt


def test_jsonl_reads_everything_and_counts_unknown_fields(tmp_path):
  full = GOOD | {
    "preference": 1,
    "chosen_score": 2.5,
    "rejected_score": -1,
    "id": 7,
  }
  path = _write(tmp_path / "a.jsonl", full, "", GOOD | {"id": 8, "x": 1})
  records, report = data.read("jsonl", path)
  first, second = records
  assert (first.preference, first.chosen_score, first.rejected_score) == (
    1.0,
    2.5,
    -1.0,
  )
  assert (first.prompt, first.chosen, first.rejected) == (
    "Hi?",
    " Hello.",
    " Go.",
  )
  assert second.preference is None
  assert second.source == f"{path}:3"  # blank lines count
  assert report.ignored == (("id", 2), ("x", 1))
  assert "fields not read: 'id' in 2 rows, 'x' in 1 rows" in report.summary()


def test_gzip_equals_plain(tmp_path):
  plain = _write(tmp_path / "a.jsonl", GOOD, GOOD)
  zipped = tmp_path / "a.jsonl.gz"
  zipped.write_bytes(gzip.compress(plain.read_bytes()))
  texts = lambda path: [r.chosen for r in data.read_jsonl(path)[0]]
  assert texts(plain) == texts(zipped) == [" Hello.", " Hello."]


BAD_ROWS = [
  ("{", "is not JSON", "one whole JSON object", "json"),
  ("[1]", "is a JSON list, not an object", '{"prompt"', "object"),
  (
    {"prompt": "a", "chosen": "b"},
    "'rejected' is missing",
    "columns=rejected=COLUMN",
    "missing",
  ),
  (GOOD | {"chosen": 3}, "'chosen' is a int", "as a string", "type"),
  (
    GOOD | {"chosen": " \n"},
    "the chosen response is empty",
    "skip",
    "empty_response",
  ),
  (
    GOOD | {"rejected": ""},
    "the rejected response is empty",
    "skip",
    "empty_response",
  ),
  (
    GOOD | {"prompt": " "},
    "the prompt is empty",
    "Write a prompt",
    "empty_prompt",
  ),
  (GOOD | {"chosen": " Go."}, "are equal", "two responses", "identical"),
  (
    GOOD | {"preference": 1.5},
    "is 1.5, outside [0, 1]",
    "probability",
    "range",
  ),
  (
    GOOD | {"preference": float("nan")},
    "is nan, outside",
    "probability",
    "range",
  ),
  (GOOD | {"preference": "1"}, "'preference' is a str", "as a number", "type"),
  (
    GOOD | {"preference": True},
    "'preference' is a bool",
    "as a number",
    "type",
  ),
  (GOOD | {"chosen_score": 10**400}, "'chosen_score' is 1", "finite", "range"),
  (GOOD | {"chosen_score": float("inf")}, "is inf", "finite", "range"),
  (
    '{"prompt": "a\\ud800", "chosen": "b", "rejected": "c"}',
    "lone surrogate",
    "whole",
    "unicode",
  ),
]


@pytest.mark.parametrize("row, problem, remedy, reason", BAD_ROWS)
def test_jsonl_bad_row(tmp_path, row, problem, remedy, reason):
  path = _write(tmp_path / "a.jsonl", GOOD, row, GOOD)
  with pytest.raises(UserError) as caught:
    data.read_jsonl(path)
  assert f"{path}:2: " in str(caught.value)
  assert problem in str(caught.value)
  assert remedy in caught.value.remedy
  records, report = data.read_jsonl(path, on_error="skip")
  assert len(records) == 2
  assert report.lines() == {reason: [2]}
  assert report.read == 3


T2 = f"{START} x\n\nHuman: b\n\nAssistant:"
BAD_TRANSCRIPTS = [
  (
    _hh(f"{START} ", f"{START} y"),
    "chosen response is empty",
    "empty_response",
  ),
  (
    _hh(f"{START} x", f"{START}\n"),
    "rejected response is empty",
    "empty_response",
  ),
  (
    _hh(f"{T2} x", f"{START} y\n\nHuman: b\n\nAssistant: z"),
    "part before",
    "diverging",
  ),
  (_hh(f"{T2} x", f"{START} z"), "part before", "diverging"),
  (_hh(f"{T2} x", f"{T2} x"), "are equal", "identical"),
  (_hh("hello", f"{START} x"), "'chosen' is not a transcript", "transcript"),
  (
    _hh(f"{START} x\n\nHuman: b", f"{START} x"),
    "'chosen' is not a tr",
    "transcript",
  ),
  (
    _hh("\n\nHuman: \n\nAssistant: x", f"{START} x"),
    "prompt is empty",
    "empty_prompt",
  ),
  ({"chosen": f"{START} x"}, "'rejected' is missing", "missing"),
]


@pytest.mark.parametrize("row, problem, reason", BAD_TRANSCRIPTS)
def test_hh_bad_row(tmp_path, row, problem, reason):
  good = _hh(f"{START} x", f"{START} y")
  path = _write(tmp_path / "a.jsonl", good, row)
  with pytest.raises(UserError, match=problem) as caught:
    data.read_hh(path, on_error="error")
  assert f"{path}:2: " in str(caught.value)
  assert caught.value.remedy
  _, report = data.read_hh(path)  # HH skips by default
  assert report.lines() == {reason: [2]}


def test_hh_two_turns_of_one_role(tmp_path):
  prompt = "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant:"
  path = _write(tmp_path / "a.jsonl", _hh(f"{prompt} x", f"{prompt} y"))
  (record,), _ = data.read_hh(path)
  assert (record.prompt, record.chosen, record.group) == (prompt, " x", "a")


def test_file_errors(tmp_path):
  missing, folder = tmp_path / "none.jsonl", tmp_path
  fake = tmp_path / "fake.jsonl.gz"
  fake.write_text(json.dumps(GOOD))
  torn = tmp_path / "torn.jsonl.gz"
  torn.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:-12])
  for path, problem, remedy in (
    (missing, "no such file", "Check the path"),
    (folder, "cannot be read", "not a folder"),
    (fake, "not a whole gzip file", "take .gz off"),
    (torn, "not a whole gzip file", "Fetch it again"),
  ):
    for on_error in ("error", "skip"):
      with pytest.raises(UserError, match=problem) as caught:
        data.read_jsonl(path, on_error=on_error)
      assert str(path) in str(caught.value)
      assert remedy in caught.value.remedy


def test_gzip_without_its_suffix_is_named(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
  with pytest.raises(UserError, match="must end in .gz"):
    data.read_jsonl(path)


def test_no_usable_row(tmp_path):
  with pytest.raises(UserError, match="no usable row .read 0 pairs"):
    data.read_jsonl(_write(tmp_path / "empty.jsonl"), on_error="skip")
  path = _write(tmp_path / "bad.jsonl", "{", "{")
  with pytest.raises(UserError, match="lines 1, 2.*bad.jsonl:1: the line is"):
    data.read_jsonl(path, on_error="skip")


def test_unknown_source_and_policy(tmp_path):
  with pytest.raises(UserError, match="'csv'.*'hh', 'jsonl'"):
    data.read("csv", tmp_path)
  with pytest.raises(UserError, match="on_error is 'ignore'"):
    data.read_jsonl(_write(tmp_path / "a.jsonl", GOOD), on_error="ignore")


@pytest.mark.parametrize("name", sorted(data.WITHOUT_TEMPLATE))
def test_a_template_where_none_is_taken(tmp_path, name):
  with pytest.raises(UserError, match=f"{name!r} takes no template"):
    data.read(name, tmp_path / "a.jsonl", template=data.PLAIN_CHAT)
  if name == "tldr_world":
    assert len(data.read(name, "sft[:3]", template=None)[0]) == 3


def test_the_sources_with_a_template():
  for name, reader in data.SOURCES.items():
    if name != "tldr_world":  # this source has the parameter only to refuse it
      takes = "template" in inspect.signature(reader).parameters
      assert takes == (name not in data.WITHOUT_TEMPLATE)


def test_summary_names_ten_lines(tmp_path):
  path = _write(tmp_path / "a.jsonl", GOOD, *["{"] * 12)
  _, report = data.read_jsonl(path, on_error="skip")
  assert report.summary().endswith("2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more)")
  assert len(report.to_dict()["skipped"]["json"]) == 12


def test_prompts(tmp_path):
  path = _write(
    tmp_path / "a.jsonl", GOOD, GOOD | {"chosen": "x"}, {"prompt": "b"}
  )
  records, report = data.read_prompts(path)
  assert [r.prompt for r in records] == ["Hi?", "Hi?", "b"]
  assert report.summary().startswith("read 3 prompts, used 3; fields not read")
  pairs, _ = data.read_jsonl(_write(tmp_path / "b.jsonl", GOOD, GOOD))
  assert [p.source for p in data.unique_prompts(pairs)] == [pairs[0].source]


def _records(count):
  return [
    data.PreferenceRecord("p", "c", "r", f"f:{i}", group=f"g{i // 3}")
    for i in range(count)
  ]


def test_split_keeps_groups_and_ignores_order():
  records = _records(3000)
  train, evaluation = data.split(records, 0.2, seed=3)
  assert not {r.group for r in train} & {r.group for r in evaluation}
  assert abs(len(evaluation) / 3000 - 0.2) < 0.04
  shuffled = random.Random(0).sample(records, len(records))
  again = data.split(shuffled, 0.2, seed=3)
  assert [set(part) for part in again] == [set(train), set(evaluation)]
  few = data.split(records[:300], 0.2, seed=3)[1]
  assert set(few) == set(evaluation) & set(records[:300])
  other = data.split(records, 0.2, seed=4)[1]
  assert set(other) != set(evaluation)


def test_split_errors():
  for fraction in (0.0, 1.0, -1, float("nan")):
    with pytest.raises(UserError, match="eval_fraction"):
      data.split(_records(9), fraction, seed=0)
  with pytest.raises(UserError, match="part of the split is empty.*1 groups"):
    data.split(_records(3), 0.5, seed=0)
