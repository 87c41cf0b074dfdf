"""Published formats of preferences: SHP, UltraFeedback, OpenAssistant..."""

import json

import pytest

from jalign import data
from jalign.errors import UserError


def _write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def _bad(path, reader, problem, **options):
  with pytest.raises(UserError, match=problem) as caught:
    reader(path, **options)
  assert f"{path}:" in str(caught.value) and caught.value.remedy


def test_binary(tmp_path):
  rows = [
    {"prompt": "a", "completion": "b", "label": True},
    {"prompt": "a", "response": "c", "label": 0},
    {"prompt": [{"role": "user", "content": "a"}], "response": "d", "label": 1},
  ]
  path = _write(tmp_path / "a.jsonl", *rows)
  records, report = data.read_binary(path, template=data.PLAIN_CHAT)
  assert [r.desirable for r in records] == [True, False, True]
  assert {r.prompt for r in records} == {"user: a\n\nassistant:"}
  assert report.noun == "responses" and report.ignored == ()
  for label in ("yes", 2, 0.5, None):
    row = {"prompt": "a", "response": "b", "label": label}
    path = _write(tmp_path / "bad.jsonl", rows[0], row)
    _bad(path, data.read_binary, "field 'label' is")
    assert data.read_binary(path, "skip")[1].lines() == {"label": [2]}
  path = _write(tmp_path / "bad.jsonl", {"prompt": "a", "label": 1})
  _bad(path, data.read_binary, "'response' is missing")


def test_ranked_lists_in_both_forms(tmp_path):
  path = _write(
    tmp_path / "a.jsonl",
    {"prompt": "a", "responses": ["b", "c", "d"], "scores": [1, None, -2.5]},
    {
      "prompt": "a",
      "responses": [
        {"text": "b", "score": 1},
        {"text": " ", "score": 2},
        {"text": "d", "score": 0},
      ],
    },
  )
  (first, second), report = data.read_ranked(path)
  assert (first.responses, first.scores) == (("b", "d"), (1.0, -2.5))
  assert (second.responses, second.scores) == (("b", "d"), (1.0, 0.0))
  assert report.parts() == {"unscored": [1], "blank": [2]}
  assert report.summary() == (
    "read 2 lists, used 2; left out 1 responses without a score (line 1), "
    "1 empty responses (line 2)"
  )
  json.dumps(report.to_dict())


def test_bad_lists(tmp_path):
  two = [{"text": "b", "score": 1}, {"text": "c", "score": 2}]
  for row, problem, reason in (
    ({"responses": ["b"], "scores": [1]}, "1 of 1 responses have", "few"),
    ({"responses": ["b", "c"], "scores": [1]}, "2 responses and 1 sc", "few"),
    ({"responses": "b", "scores": [1]}, "is a str, not a list", "type"),
    ({"responses": ["b", two[0]], "scores": [1, 2]}, "is a dict", "type"),
    ({"responses": [{"text": "b"}] * 2}, "has 'score' or 'win_pr", "missing"),
    ({"responses": [two[0], {"score": 1}]}, "'text' is missing", "missing"),
    (
      {"responses": [two[0], {"text": "c", "score": float("inf")}]},
      "is inf",
      "range",
    ),
  ):
    good = {"prompt": "a", "responses": two}
    path = _write(tmp_path / "a.jsonl", good, {"prompt": "a"} | row)
    _bad(path, data.read_ranked, problem)
    assert data.read_ranked(path, "skip")[1].lines() == {reason: [2]}


def test_the_score_can_be_chosen(tmp_path):
  responses = [
    {"text": "b", "score": 1, "helpful": 0},
    {"text": "c", "score": 0, "helpful": 1},
  ]
  path = _write(tmp_path / "a.jsonl", {"prompt": "a", "responses": responses})
  assert data.read_ranked(path)[0][0].scores == (1, 0)
  assert data.read_ranked(path, score="helpful")[0][0].scores == (0, 1)


def test_shp(tmp_path):
  row = {
    "post_id": "p1",
    "domain": "askx",
    "history": "a?",
    "human_ref_A": "b",
    "human_ref_B": "c",
    "labels": 0,
    "score_A": 3,
    "score_B": 8,
  }
  path = _write(tmp_path / "a.jsonl", row, row | {"labels": 1})
  (first, second), report = data.read_shp(path)
  assert (first.prompt, first.chosen, first.rejected) == ("a?", "c", "b")
  assert (first.chosen_score, first.rejected_score) == (8.0, 3.0)
  assert (second.chosen, second.chosen_score) == ("b", 3.0)
  assert first.group == "p1"  # so that one post's comments stay together
  assert report.ignored == (("domain", 2),)
  for label in (2, "1", True, None):
    path = _write(tmp_path / "bad.jsonl", row | {"labels": label})
    _bad(path, data.read_shp, "field 'labels' is")


def test_raw_ultrafeedback(tmp_path):
  completions = [
    {"response": "b", "overall_score": 7.5, "fine-grained_score": 4.0},
    {"response": "c", "overall_score": 9.0, "fine-grained_score": 3.0},
    {"response": "d", "overall_score": None, "fine-grained_score": 2.0},
  ]
  row = {"source": "x", "instruction": "a", "completions": completions}
  path = _write(tmp_path / "a.jsonl", row)
  (record,), report = data.read_ultrafeedback(path)
  assert (record.responses, record.scores) == (("b", "c"), (7.5, 9.0))
  assert report.parts() == {"unscored": [1]}
  (fine,), _ = data.read_ultrafeedback(path, score="fine-grained_score")
  assert fine.scores == (4.0, 3.0, 2.0)
  _bad(path, data.read_ultrafeedback, "no response has 'taste'", score="taste")


def _message(name, role, text, parent=None, **more):
  ids = {"message_id": name, "parent_id": parent}
  return ids | {"role": role, "text": text} | more


FLAT = [
  _message("1", "prompter", "a"),
  _message("2", "assistant", "good", "1", rank=0.0),
  _message("3", "assistant", "poor", "1", rank=1.0),
  _message("4", "assistant", "none", "1", rank=None),
  _message("5", "prompter", "more?", "2"),
  _message("6", "assistant", "yes", "5", rank=1),
  _message("7", "assistant", "no", "5", rank=0),
  _message("8", "prompter", "why", "3"),
  _message("9", "assistant", "so", "8", rank=0),
  _message("10", "prompter", "gone", "3", deleted=True),
  _message("11", "assistant", "x", "10", rank=0),
]


def _nested(name):
  row = next(dict(m) for m in FLAT if m["message_id"] == name)
  row["replies"] = [
    _nested(m["message_id"]) for m in FLAT if m["parent_id"] == name
  ]
  return row


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_openassistant(tmp_path, form):
  tree = {"message_tree_id": "1", "prompt": _nested("1")}
  rows = FLAT if form == "flat" else [tree]
  path = _write(tmp_path / "a.jsonl", *rows)
  records, report = data.read_openassistant(path, template=data.PLAIN_CHAT)
  first, second = records
  assert first.prompt == "user: a\n\nassistant:"
  assert (first.responses, first.scores) == ((" good", " poor"), (0.0, -1.0))
  assert second.prompt == (
    "user: a\n\nassistant: good\n\nuser: more?\n\nassistant:"
  )
  assert (second.responses, second.scores) == ((" yes", " no"), (-1.0, 0.0))
  assert first.group == second.group == "a"  # a tree is never split
  assert first.source != second.source and first.source.startswith(f"{path}:1#")
  assert report.parts() == {"unscored": [1], "deleted": [1], "alone": [1]}
  assert "read 1 trees, used 1 (2 records)" in report.summary()


def test_bad_trees(tmp_path):
  read = data.read_openassistant
  chat = {"template": data.PLAIN_CHAT}
  orphan = [
    _message("20", "assistant", "x", "nobody", rank=0),
    _message("21", "prompter", "y", "20"),
  ]
  path = _write(tmp_path / "a.jsonl", *FLAT, *orphan, FLAT[0])
  _, report = read(path, "skip", **chat)
  assert report.lines() == {"orphan": [12, 13], "repeated": [14]}
  _bad(path, read, "comes twice", **chat)
  _bad(
    _write(tmp_path / "b.jsonl", *FLAT, *orphan), read, "leads to no", **chat
  )
  _bad(
    _write(tmp_path / "c.jsonl", *FLAT[:2]), read, "no prompt of the", **chat
  )
  narrator = _message("3", "narrator", "x", "1", rank=1)
  _bad(
    _write(tmp_path / "d.jsonl", *FLAT[:2], narrator), read, "narrator", **chat
  )
  _bad(path, read, "no chat template")


def test_guesses():
  # The world is generated, not read from rows that could be guessed.
  assert [*data.KINDS, "tldr_world"] == list(data.SOURCES)
  turns = [{"role": "user", "content": "a"}]
  for row, name in (
    ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "hh"),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "pairs"),
    ({"chosen": turns, "rejected": turns}, "pairs"),
    ({"history": "a", "human_ref_A": "b", "human_ref_B": "c"}, "shp"),
    ({"prompt": "a", "responses": []}, "ranked"),
    ({"instruction": "a", "completions": []}, "ultrafeedback"),
    (FLAT[0], "openassistant"),
    ({"message_tree_id": "1", "prompt": {}}, "openassistant"),
    ({"prompt": "a", "completion": "b", "label": 1}, "binary"),
    ({"prompt": "a", "completion": "b", "label": None}, "demonstrations"),
    ({"messages": turns}, "conversations"),
    ({"prompt": "a"}, "prompts"),
  ):
    assert data.guess_source(row) == name
    assert name in data.SOURCES
  with pytest.raises(UserError, match="'x', 'y' has the shape of no") as e:
    data.guess_source({"x": 1, "y": 2})
  assert "prompts" in e.value.remedy and "tldr_world" not in e.value.remedy


def test_alpacaeval_as_lists_pairs_and_labels(shared):
  path = shared / "data" / "alpacaeval2_ranked.jsonl.gz"
  lists, report = data.read("ranked", path)
  assert isinstance(lists[0], data.KINDS["ranked"])
  assert report.summary() == "read 805 lists, used 805"
  assert {len(record.scores) for record in lists} == {9}
  assert {record.scores[0] for record in lists} == {
    0.5
  }  # the baseline, by definition
  pairs, report = data.best_and_worst(lists)
  assert len(pairs) == 805 and not report.skipped
  assert all(p.chosen_score > p.rejected_score for p in pairs)
  pairs, report = data.all_ordered(lists)
  assert report.read == 805 * 36 == len(pairs) + len(report.skipped)
  assert set(report.lines()) == {"tie", "identical"}
  labels = data.label_by_score(lists, 0.5)
  assert len(labels) == 805 * 9
  assert sum(record.desirable for record in labels) >= 805  # the baseline's own
