"""Values that a template reads are checked at every depth of a row."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from jalign import data
from jalign.data.file_check import check_file
from jalign.data.findings import describe
from jalign.data.plain import MAX_DEPTH
from jalign.errors import UserError

# Writes the tools, the turns, and the turns' calls.
CALLS = (
  "{% if tools %}{{ tools | tojson }}{% endif %}"
  "{% for m in messages %}<{{ m.role }}>{{ m.reasoning_content }}"
  "{{ m.content }}{% for c in m.tool_calls %}"
  "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
  "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _write(path, *rows):
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  path.write_text("".join(line + "\n" for line in lines))
  return path


def _call(name="f", **arguments):
  function = {"name": name, "arguments": arguments}
  return {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": function}],
  }


def _user(content="p"):
  return {"role": "user", "content": content}


def _said(content="yes"):
  return {"role": "assistant", "content": content}


def _pair(answer, **more):
  return {"prompt": [_user()], "chosen": [answer], "rejected": "no"} | more


BAD = [
  ("unicode", _pair(_call(x="a\ud83d"))),
  ("unicode", _pair(_call(**{"\ud83d": 1}))),
  ("unicode", _pair(_said() | {"reasoning_content": "\ud83d"})),
  ("unicode", _pair(_said(), tools=[{"name": "\ud83d"}])),
  ("unicode", _pair(_said(), tools='[{"name": "\\ud83d"}]')),
  ("unicode", _pair(_said(), chat_template_kwargs={"x": ["\ud83d"]})),
  ("roles", _pair(_said() | {"role": ["assistant"]})),
  ("roles", _pair(_said() | {"role": {"a": 1}})),
  ("type", _pair(_said() | {"reasoning_content": ["a"]})),
  ("type", _pair(_said() | {"name": 3})),
  ("type", _pair(_said() | {"tool_calls": "f"}) | {"tools": 3}),
  ("type", _pair(_said() | {"tool_calls": [3]})),
  ("type", _pair(_said() | {"tool_calls": {"function": {"name": "f"}}})),
  ("type", _pair(_said() | {"tool_calls": [{"function": {"name": 3}}]})),
  ("type", _pair(_call() | {"tool_calls": [{"name": "f", "arguments": 3}]})),
  ("type", _pair(_said(), tools=["f"]) | {"tools": [3]}),
  ("type", _pair(_said([{"type": "image", "url": "x"}]))),
  ("type", _pair(_said([{"type": "text", "text": 3}]))),
  ("type", _pair(_said(["yes"]))),
  ("json", _pair(_said(), tools="[")),
  ("json", _pair(_said() | {"tool_calls": "f"})),
  ("json", _pair(_said(), tools="[" * 100_000)),
  ("template", _pair(_said(), chat_template_kwargs={"messages": []})),
  ("template", _pair(_said(), chat_template_kwargs={"eos_token": "x"})),
]


@pytest.mark.parametrize("reason, row", BAD)
def test_a_bad_value_at_any_depth_is_a_bad_row(tmp_path, reason, row):
  path = _write(tmp_path / "a.jsonl", _pair(_said()), row)
  with pytest.raises(UserError) as caught:
    data.read_pairs(path, template=CALLS)
  assert f"{path}:2: " in str(caught.value) and caught.value.remedy
  _, report = data.read_pairs(path, "skip", template=CALLS)
  assert report.lines() == {reason: [2]}


@pytest.mark.parametrize(
  "line",
  [
    '{"prompt": "a", "chosen": "b", "rejected": "c", "chosen": "d"}',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "x": [{"k": 1, "k": 1}]}',
  ],
)
def test_a_key_that_comes_twice_is_a_bad_row(tmp_path, line):
  good = {"prompt": "a", "chosen": "b", "rejected": "c"}
  path = _write(tmp_path / "a.jsonl", good, line)
  with pytest.raises(UserError, match=r":2: the key '(chosen|k)' comes twice"):
    data.read_pairs(path)
  _, report = data.read_pairs(path, "skip")
  assert report.lines() == {"keys": [2]}


def _deep(depth):
  value = "x"
  for _ in range(depth):
    value = [value]
  return value


@pytest.mark.parametrize("depth", [MAX_DEPTH, 900, 100_000])
def test_nesting_beyond_a_depth_is_a_bad_row(tmp_path, depth):
  row = json.dumps(_pair(_call(x="DEEP")))
  deep = "[" * depth + '"x"' + "]" * depth
  path = _write(
    tmp_path / "a.jsonl", _pair(_said()), row.replace('"DEEP"', deep)
  )
  _, report = data.read_pairs(path, "skip", template=CALLS)
  (reason,) = report.lines()
  assert reason in ("deep", "json") and report.lines()[reason] == [2]
  path = _write(tmp_path / "b.jsonl", _pair(_call(x=_deep(MAX_DEPTH - 10))))
  assert len(data.read_pairs(path, template=CALLS)[0]) == 1


def test_columns_of_different_lengths_are_a_bad_row(tmp_path):
  whole = {"role": ["user", "assistant"], "content": ["a", "b"]}
  for torn in (
    {"role": ["user", "assistant"], "content": ["a", "b", "c"]},
    {"role": ["user", "assistant", "user"], "content": ["a", "b"]},
  ):
    path = _write(tmp_path / "a.jsonl", {"messages": whole}, {"messages": torn})
    with pytest.raises(UserError, match=r":2: the columns of field 'messages'"):
      data.read_conversations(path)
    records, report = data.read_conversations(path, "skip")
    assert report.lines() == {"columns": [2]}
    assert [m["content"] for m in records[0].messages] == ["a", "b"]
  lists = {"text": ["a", "b"], "score": [1, 2]}
  row = {"prompt": "p", "responses": lists}
  torn = {"prompt": "p", "responses": lists | {"score": [1, 2, 3]}}
  path = _write(tmp_path / "b.jsonl", row, torn)
  records, report = data.read_ranked(path, "skip")
  assert records[0].scores == (1, 2) and report.lines() == {"columns": [2]}


def test_text_in_parts_is_one_text(tmp_path):
  parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
  path = _write(tmp_path / "a.jsonl", _pair(_said(parts)), _pair(_said("a b")))
  (first, second), _ = data.read_pairs(path, template=CALLS)
  assert first.chosen == second.chosen == "a b"


def test_a_tool_may_return_nothing(tmp_path):
  for nothing in ("", None):
    tool = {"role": "tool", "content": nothing}
    row = {"prompt": [_user(), _call(), tool], "chosen": "b", "rejected": "c"}
    path = _write(tmp_path / "a.jsonl", row)
    (record,), _ = data.read_pairs(path, template=CALLS)
    assert record.prompt == "<user>p<assistant>f {}<tool><assistant>"
  row["prompt"] = [_user(" "), {"role": "tool", "content": ""}]
  path = _write(tmp_path / "b.jsonl", row)
  with pytest.raises(UserError, match="the prompt is empty"):
    data.read_pairs(path, template=CALLS)


def test_a_ranked_response_may_be_a_call(tmp_path):
  row = {
    "prompt": [_user()],
    "responses": [[_call()], "no", " "],
    "scores": [1, 0, 2],
  }
  path = _write(tmp_path / "a.jsonl", row)
  (record,), report = data.read_ranked(path, template=CALLS)
  assert record.responses == ("f {}", "no")
  assert report.parts() == {"blank": [1]}


def test_a_call_that_the_template_does_not_write_is_refused(tmp_path):
  silent = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
  )
  path = _write(tmp_path / "a.jsonl", {"messages": [_user(), _call()]})
  with pytest.raises(UserError, match=":1: a turn calls tools, and the chat"):
    data.read_demonstrations(path, template=silent)
  mute = "<{{ messages[0].content }}>"
  path = _write(tmp_path / "b.jsonl", {"messages": [_user(), _said()]})
  with pytest.raises(UserError, match=":1: the chat template writes nothing"):
    data.read_demonstrations(path, template=mute)


def test_tools_that_the_template_does_not_write_are_counted(tmp_path):
  path = _write(tmp_path / "a.jsonl", _pair(_said(), tools=[{"name": "f"}]))
  (record,), report = data.read_pairs(path, template=CALLS)
  assert record.prompt.startswith('[{"name": "f"}]') and not report.ignored
  _, report = data.read_pairs(path, template=data.PLAIN_CHAT)
  assert report.ignored == (("tools", 1),)
  row = {"messages": [_user(), _said()], "tools": [{"name": "f"}]}
  path = _write(tmp_path / "b.jsonl", row)
  for template, ignored in ((CALLS, ()), (data.PLAIN_CHAT, (("tools", 1),))):
    (record,), report = data.read_conversations(path, template=template)
    assert record.variables and report.ignored == ignored


def test_checking_compares_whole_messages(tmp_path):
  oslo, rome = _call("weather", city="Oslo"), _call("weather", city="Rome")
  rows = [{"messages": [_user(), answer]} for answer in (oslo, rome, oslo)]
  path = _write(tmp_path / "a.jsonl", *rows)
  assert check_file(path).duplicates == ((f"{path}:3", f"{path}:1"),)
  assert "training needs a template" in "\n".join(describe(check_file(path)))
  pairs = [_pair(oslo), _pair(rome), _pair(oslo)]
  path = _write(tmp_path / "b.jsonl", *pairs)
  check = check_file(path)
  assert check.duplicates == ((f"{path}:3", f"{path}:1"),)
  assert check.report.used == 3 and check.plain_chat
  assert "training needs a template" in "\n".join(describe(check))


def test_names_of_a_file_are_escaped_and_few(tmp_path):
  name = "\x1b[2J`<b>` \u202e" + "x" * 1000
  row = {"prompt": "a", "chosen": "b", "rejected": "c", name: 1}
  row |= {f"field {i}": 1 for i in range(50)}
  _, report = data.read_pairs(_write(tmp_path / "a.jsonl", row))
  said = report.summary()
  assert "\x1b" not in said and "\u202e" not in said and len(said) < 600
  assert "and 41 more" in said
  with pytest.raises(UserError) as caught:
    data.read_hh(_write(tmp_path / "b.jsonl", {name: 1}), "error")
  assert "\x1b" not in caught.value.paragraph("jalign")
  (line,) = UserError("\x1b]0;x\x07 \ud83d").paragraph("x").splitlines()
  assert line == r"x: error: \x1b]0;x\x07 \ud83d"


def _json(*values):
  texts = pyarrow.array([json.dumps(value) for value in values])
  return pyarrow.ExtensionArray.from_storage(pyarrow.json_(), texts)


def _lists(values):
  return pyarrow.ListArray.from_arrays([0, len(values)], values)


@pytest.mark.parametrize("kind", ["typed", "whole"])
def test_columns_of_json_are_parsed(tmp_path, kind):
  """JSON as texts, which is how `datasets` writes its Json type."""
  chosen = _lists(_json(_call(city="Oslo", n=None)))
  if kind == "typed":
    struct = pyarrow.StructArray.from_arrays
    arguments = _json({"city": "Oslo", "n": None})
    function = struct([pyarrow.array(["f"]), arguments], ["name", "arguments"])
    calls = _lists(struct([function], ["function"]))
    role = pyarrow.array(["assistant"])
    chosen = _lists(struct([role, calls], ["role", "tool_calls"]))
  rows = {
    "prompt": _lists(_json(_user())),
    "chosen": chosen,
    "rejected": _lists(_json(_said("no"))),
    "tools": _json([{"name": "f"}]),
  }
  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.table(rows), path)
  (record,), _ = data.read_pairs(path, template=CALLS)
  assert record.prompt == '[{"name": "f"}]<user>p<assistant>'
  assert (record.chosen, record.rejected) == ('f {"city": "Oslo"}', "no")
