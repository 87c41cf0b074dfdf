"""Rows of messages: explicit and implicit prompts, and messages without one."""

import json

import pytest

from jalign import data
from jalign.errors import UserError

# Writes the texts of a chat, with marks that are easy to read.
MARKS = (
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _turns(*texts, first="user"):
  roles = ("user", "assistant") if first == "user" else ("assistant", "user")
  return [
    {"role": roles[i % 2], "content": text} for i, text in enumerate(texts)
  ]


def _write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def _pair(tmp_path, row, **options):
  options = {"template": MARKS} | options
  path = _write(tmp_path / "a.jsonl", row)
  (record,), _ = data.read_pairs(path, **options)
  return record


def test_the_four_forms_of_a_pair_are_one(tmp_path):
  good, bad = _turns("b", first="x"), _turns("c", first="x")
  forms = [
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"prompt": _turns("a"), "chosen": good, "rejected": bad},
    {"prompt": "a", "chosen": good, "rejected": "c"},
    {"chosen": _turns("a", "b"), "rejected": _turns("a", "c")},
    {"prompt": "a", "chosen": _turns("a", "b"), "rejected": _turns("a", "c")},
  ]
  for form in forms:
    record = _pair(tmp_path, form)
    assert (record.prompt, record.chosen, record.rejected, record.group) == (
      "<user>a<assistant>",
      "b",
      "c",
      "a",
    )


def test_the_implicit_prompt_is_all_but_the_last_turn(tmp_path):
  record = _pair(
    tmp_path,
    {
      "chosen": _turns("a", "b", "c", "d"),
      "rejected": _turns("a", "b", "c", "e"),
    },
  )
  assert record.prompt == "<user>a<assistant>b<user>c<assistant>"
  assert (record.chosen, record.rejected, record.group) == ("d", "e", "a")


def test_binarized_ultrafeedback(tmp_path):
  row = {
    "prompt": "a",
    "prompt_id": "x",
    "chosen": _turns("a", "b"),
    "rejected": _turns("a", "c"),
    "messages": _turns("a", "b"),
    "score_chosen": 9.0,
    "score_rejected": 5,
  }
  path = _write(tmp_path / "a.jsonl", row)
  (record,), report = data.read_pairs(path, template=MARKS)
  assert (record.chosen_score, record.rejected_score) == (9.0, 5.0)
  assert report.ignored == (("messages", 1), ("prompt_id", 1))


def test_other_names_for_the_same(tmp_path):
  sharegpt = {
    "conversations": [
      {"from": "human", "value": "a"},
      {"from": "gpt", "value": "b"},
    ]
  }
  path = _write(
    tmp_path / "a.jsonl",
    sharegpt,
    {"messages": _turns("a", "b")},
    {"prompt": "a", "completion": "b"},
    {"prompt": _turns("a"), "response": "b"},
  )
  records, _ = data.read_demonstrations(path, template=MARKS)
  assert {(r.prompt, r.response) for r in records} == {
    ("<user>a<assistant>", "b")
  }
  (first, second), _ = data.read_conversations(
    _write(tmp_path / "b.jsonl", sharegpt, {"messages": _turns("a", "b")})
  )
  assert first.messages == second.messages == tuple(_turns("a", "b"))


def test_extra_keys_reach_the_template_and_nulls_do_not(tmp_path):
  message = {"role": "user", "content": "a", "name": "Ann", "tools": None}
  template = "{% for m in messages %}{{ m.keys() | list }}{% endfor %}"
  path = _write(tmp_path / "a.jsonl", {"prompt": [message]})
  (record,), _ = data.read_prompts(path, template=template)
  assert record.prompt == "['role', 'content', 'name']"


def test_plain_text_stays_as_it_is_without_a_template(tmp_path):
  row = {"prompt": " a ", "chosen": " b", "rejected": "c\n"}
  record = _pair(tmp_path, row, template=None)
  assert (record.prompt, record.chosen, record.rejected) == (" a ", " b", "c\n")


def test_messages_without_a_template_say_what_to_do(tmp_path):
  row = {"chosen": _turns("a", "b"), "rejected": _turns("a", "c")}
  path = _write(tmp_path / "a.jsonl", row)
  for on_error in ("error", "skip"):  # no row of such a file can be used
    with pytest.raises(UserError, match="no chat template") as caught:
      data.read_pairs(path, on_error)
    assert f"{path}:1: " in str(caught.value)
    assert "tokenizer's folder" in caught.value.remedy


SYSTEM = {"role": "system", "content": "s"}
BAD_PAIRS = [
  ("diverging", _turns("a", "x", "c", "d"), _turns("a", "y", "c", "e"), "part"),
  ("diverging", _turns("a", "b"), _turns("A", "c"), "part before"),
  ("diverging", _turns("a", "b"), [SYSTEM, *_turns("a", "c")], "part before"),
  ("roles", _turns("a", "b", "c"), _turns("a", "b", "d"), "not end with an as"),
  ("identical", _turns("a", "b"), _turns("a", "b"), "are equal"),
  ("empty_response", _turns("a", " "), _turns("a", "b"), "chosen response is"),
  ("empty_prompt", _turns(" ", "b"), _turns(" ", "c"), "prompt is empty"),
  ("missing", _turns("b", first="x"), _turns("c", first="x"), "'prompt' is m"),
  ("type", [], _turns("a", "b"), "an empty list, not a string or a list"),
  ("type", ["a"], _turns("a", "b"), r"chosen\[0\] is a str, not a message"),
  (
    "type",
    [{"role": "user", "content": None}],
    _turns("a", "b"),
    r"content of chosen\[0\] is nothing",
  ),
  (
    "roles",
    [{"role": "narrator", "content": "a"}],
    _turns("a", "b"),
    "the role 'narrator'",
  ),
]


@pytest.mark.parametrize("reason, chosen, rejected, problem", BAD_PAIRS)
def test_bad_pairs(tmp_path, reason, chosen, rejected, problem):
  good = {"chosen": _turns("a", "b"), "rejected": _turns("a", "c")}
  bad = {"chosen": chosen, "rejected": rejected}
  path = _write(tmp_path / "a.jsonl", good, bad)
  with pytest.raises(UserError, match=problem) as caught:
    data.read_pairs(path, template=MARKS)
  assert f"{path}:2: " in str(caught.value) and caught.value.remedy
  _, report = data.read_pairs(path, "skip", template=MARKS)
  assert report.lines() == {reason: [2]}


def test_prompt_and_conversations_must_agree(tmp_path):
  row = {
    "prompt": "other",
    "chosen": _turns("a", "b"),
    "rejected": _turns("a", "c"),
  }
  with pytest.raises(UserError, match="not what the conversations begin with"):
    _pair(tmp_path, row)
  with pytest.raises(UserError, match="'prompt' ends with an assistant turn"):
    _pair(tmp_path, {"prompt": _turns("a", "b"), "chosen": "c", "rejected": ""})


def test_demonstrations_end_with_the_assistant(tmp_path):
  for messages in (_turns("a", "b", "c"), _turns("b", first="x")):
    path = _write(tmp_path / "a.jsonl", {"messages": messages})
    for reader in (data.read_demonstrations, data.read_conversations):
      with pytest.raises(UserError, match="does not end with an assistant"):
        reader(path)
  path = _write(tmp_path / "a.jsonl", {"messages": _turns("a", "", "b", "c")})
  with pytest.raises(UserError, match=r"messages\[1\] is an empty assistant"):
    data.read_conversations(path)


def test_what_the_template_refuses_is_a_bad_row(tmp_path):
  strict = "{{ raise_exception('no') if messages | length > 2 else 'x' }}"
  path = _write(
    tmp_path / "a.jsonl",
    {"prompt": _turns("a")},
    {"prompt": _turns("a", "b", "c")},
  )
  _, report = data.read_prompts(path, "skip", template=strict)
  assert report.lines() == {"template": [2]}
  assert "1 that the chat template refuses (line 2)" in report.summary()
