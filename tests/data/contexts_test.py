"""Demonstrations with a context: texts, tokens, limits."""

import json

import numpy as np
import pytest

from jalign import data
from jalign.data.schema import DemonstrationRecord, PreferenceRecord
from jalign.errors import UserError

RECORD = DemonstrationRecord("a b", " c d", "f:1", "a b")
WORDS = data.train_words(["a b c d e f g"])


def _encode(record, **limits):
  limits = data.Limits(**({"max_tokens": 32} | limits))
  return data.encode_contexts([record], WORDS, limits)


def test_the_teacher_reads_the_context_first():
  record = data.with_context([RECORD], "e f g ")[0]
  (encoded,), cut = _encode(record)
  (plain,), _ = data.encode_demonstrations(
    [RECORD], WORDS, data.Limits(max_tokens=32)
  )
  own = np.concatenate([encoded.prompt, encoded.response])
  np.testing.assert_array_equal(own, plain.ids)
  start = WORDS.prefix_ids
  behind = [*start, *WORDS.encode("e f g a b")]
  assert encoded.context.tolist() == behind
  assert data.context_length(encoded) == len(behind) + len(encoded.response)
  assert data.context_lead([encoded]) == len(behind) - len(encoded.prompt)
  assert cut.summary() == "none of 1 demonstrations truncated"


def test_no_context_is_the_student_itself():
  (encoded,), _ = _encode(data.with_context([RECORD], "")[0])
  np.testing.assert_array_equal(encoded.context, encoded.prompt)


def test_both_rows_lose_the_same_tokens_and_the_context_none():
  record = data.with_context([RECORD], "e f g ")[0]
  (encoded,), cut = _encode(record, max_prompt_tokens=2)
  whole = _encode(record)[0][0]
  lost = len(whole.prompt) - len(encoded.prompt)
  assert lost > 0
  assert encoded.cut[0] == lost == len(whole.context) - len(encoded.context)
  assert encoded.context.tolist()[:4] == whole.context.tolist()[:4]
  assert cut.parts["prompts"].tokens == lost
  with pytest.raises(UserError, match="longest bucket has 8") as caught:
    _encode(record, max_tokens=8)
  assert caught.value.where == "f:1"


def test_contexts_of_a_column(tmp_path):
  path = tmp_path / "d.jsonl"
  rows = [
    {"prompt": "a", "response": "b", "hint": "c "},
    {"prompt": "d", "response": "e"},
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  records, report = data.read(
    "demonstrations", path, columns={"context": "hint"}
  )
  assert [r.context for r in records] == ["c ", ""]
  assert report.ignored == ()
  plain, report = data.read("demonstrations", path)
  assert isinstance(plain[0], DemonstrationRecord)
  assert report.ignored == (("hint", 1),)
  rows[0]["hint"] = 3
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(UserError, match="'context' is 3"):
    data.read("demonstrations", path, columns={"context": "hint"})


def test_records_that_take_no_context():
  pair = PreferenceRecord("a", "b", "c", "f:1", "a")
  with pytest.raises(UserError, match="has PreferenceRecords"):
    data.with_context([pair], "e")
  chat = DemonstrationRecord("a", "b", "f:1", "a", end="<end>")
  with pytest.raises(UserError, match="chat template wrote"):
    _encode(data.with_context([chat], "e")[0])
