"""Any row, whatever it holds, is read, or is a bad row with its line."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jalign import data
from jalign.data.file_check import check_file
from jalign.data.findings import describe
from jalign.errors import UserError

CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": [1]}}}
TURNS = [
  {"role": "system", "content": "s"},
  {"role": "user", "content": [{"type": "text", "text": "a"}]},
  {"role": "assistant", "content": None, "tool_calls": [CALL]},
  {"role": "tool", "content": "", "name": "f"},
  {"role": "assistant", "content": "b", "reasoning_content": "r"},
]
TOLD = {"tools": [{"name": "f"}], "chat_template_kwargs": {"x": 1}}
FLAT = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "a"}
REPLY = {"role": "assistant", "text": "b", "rank": 0, "deleted": False}
GOOD = {
  "pairs": {
    "chosen": TURNS,
    "rejected": [*TURNS[:-1], {"role": "assistant", "content": "c"}],
    "preference": 0.5,
    "score_chosen": 1,
    "rater": "a",
    "objective": "b",
    "preferences": {"c": 0.5, "d": None},
    "strength": 2,
    "chosen_unsafe": True,
    "rejected_unsafe": 0,
    **TOLD,
  },
  "hh": {
    "chosen": "\n\nHuman: a\n\nAssistant: b",
    "rejected": "\n\nHuman: a\n\nAssistant: c",
  },
  "shp": {
    "history": "a",
    "human_ref_A": "b",
    "human_ref_B": "c",
    "labels": 1,
    "score_A": 2,
    "post_id": "p",
  },
  "demonstrations": {"messages": TURNS, **TOLD},
  "conversations": {"conversations": TURNS, **TOLD},
  "binary": {"prompt": TURNS[:2], "completion": "b", "label": True, **TOLD},
  "ratings": {
    "prompt": TURNS[:2],
    "completion": "b",
    "ratings": {"c": 4, "d": None},
    **TOLD,
  },
  "ranked": {
    "prompt": TURNS[:2],
    "responses": [{"text": "b", "score": 1}, {"text": [TURNS[4]], "score": 2}],
    **TOLD,
  },
  "critiques": {
    "chosen": TURNS,
    "rejected": [*TURNS[:-1], {"role": "assistant", "content": "c"}],
    "chosen_critique": "d",
    "rejected_critique": "e",
    **TOLD,
  },
  "forum": {
    "question": TURNS[:2],
    "answers": [
      {"text": "b", "upvotes": 1, "accepted": True},
      {"text": [TURNS[4]], "votes": -2, "selected": 0},
    ],
    **TOLD,
  },
  "ultrafeedback": {
    "instruction": "a",
    "completions": {"response": ["b", "c"], "overall_score": [1, 2]},
  },
  "openassistant": {
    "prompt": {
      "role": "prompter",
      "text": "a",
      "replies": [REPLY, REPLY | {"text": "c", "rank": 1, "replies": [FLAT]}],
    }
  },
  "prompts": {"prompt": TURNS[:4], **TOLD},
}
ODD = st.sampled_from(
  [
    *(None, True, 0, -1, 10**400, 0.5, 1e999, float("nan"), "", " ", "x"),
    *("\ud83d", "\x00\x1b[2J", "user", "[]", "{", '{"a": 1}', "[" * 2000),
    *([], {}, [None], [[]], {"a": None}, {"a": []}, ["x"], [0], {"": {}}),
    *({"role": ["a"]}, [CALL], TURNS[0], [TURNS[0]], TURNS, {"a": [1, 2]}),
  ]
)


def _places(value, at=()):
  """Paths to a value and to everything inside it."""
  items = (
    value.items()
    if isinstance(value, dict)
    else enumerate(value)
    if isinstance(value, list)
    else ()
  )
  for key, inner in items:
    yield (*at, key)
    yield from _places(inner, (*at, key))


def _changed(row, path, value):
  row = copy.deepcopy(row)
  inner = row
  for key in path[:-1]:
    inner = inner[key]
  if value is _changed:
    del inner[path[-1]]
  else:
    inner[path[-1]] = value
  return row


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=30)
@given(choice=st.data())
def test_a_row_with_anything_anywhere(name, choice, tmp_path_factory):
  assert {*GOOD, "jsonl"} == {*data.KINDS}
  good = GOOD[name]
  path = choice.draw(st.sampled_from(list(_places(good))))
  bad = _changed(good, path, choice.draw(ODD | st.just(_changed)))
  other = copy.deepcopy(good)
  if name == "openassistant":
    other["prompt"]["text"] = "another"
  file = tmp_path_factory.mktemp("any") / "a.jsonl"
  file.write_text(json.dumps(bad) + "\n" + json.dumps(other) + "\n")
  told = {} if name in data.WITHOUT_TEMPLATE else {"template": data.PLAIN_CHAT}
  records, report = data.read(name, file, on_error="skip", **told)
  assert report.read == 2 and records[-1].source.startswith(f"{file}:2")
  assert {skipped.where for skipped in report.skipped} <= {f"{file}:1"}
  try:
    data.read(name, file, on_error="error", **told)
  except UserError as error:
    assert report.skipped and error.remedy
    assert f"{file}:1: " in str(error)
    assert "\x1b" not in error.paragraph("jalign")
  else:
    assert not report.skipped
  said = "\n".join(describe(check_file(file, name)))
  assert "\x1b" not in said
  said.encode()
