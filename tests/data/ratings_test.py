"""Rows with ratings, and what pairs may say beside their preference."""

import json

import numpy as np
import pytest

from jalign import cli, data
from jalign.data.file_check import check_file
from jalign.data.findings import describe
from jalign.data.fingerprint import fingerprint_of
from jalign.errors import UserError

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
RATED = {"prompt": "q", "response": "a"}


def _file(folder, *rows):
  path = folder / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_ratings_keep_their_names_and_leave_null_out(tmp_path):
  path = _file(
    tmp_path,
    RATED | {"ratings": {"helpfulness": 4, "verbosity": None}},
    RATED | {"completion": "x", "ratings": [{"name": "truth", "value": 0.5}]},
    # HelpSteer has a column for each rating.
    RATED | {"helpfulness": 3, "coherence": 2.5, "complexity": None},
  )
  records, report = data.read("ratings", path)
  assert [r.ratings for r in records] == [
    {"helpfulness": 4},
    {"truth": 0.5},
    {"helpfulness": 3, "coherence": 2.5},
  ]
  assert [r.source for r in records] == [f"{path}:{i}" for i in (1, 2, 3)]
  assert report.used == 3 and not report.left_out


@pytest.mark.parametrize(
  "ratings, said",
  [
    ({"a": "4"}, "'ratings.a' is a str, not a number"),
    ({"a": True}, "'ratings.a' is a bool, not a number"),
    ({"a": float("nan")}, "'ratings.a' is nan"),
    ({"a": float("inf")}, "'ratings.a' is inf"),
    ({"a": None}, "the response has no rating"),
    ({}, "the response has no rating"),
    (4, "'ratings' is a int, not an object"),
    ({" ": 1}, "names ' '"),
    ([{"name": "a", "value": 1}, {"name": "a", "value": 2}], "'a' twice"),
  ],
)
def test_bad_ratings_are_bad_rows(tmp_path, ratings, said):
  good = RATED | {"ratings": {"a": 1}}
  path = _file(tmp_path, good, RATED | {"ratings": ratings})
  with pytest.raises(UserError) as error:
    data.read("ratings", path)
  assert said in error.value.problem and error.value.where == f"{path}:2"
  records, report = data.read("ratings", path, on_error="skip")
  assert len(records) == 1 and report.skipped[0].line == 2


def test_ratings_are_guessed_and_checked(tmp_path, capsys):
  rows = [
    {**RATED, "prompt": f"q{i}", "ratings": {"a": i, "flat": 2} | more}
    for i, more in enumerate(({}, {"b": 1.0}, {"b": 3.0}, {}))
  ]
  path = _file(tmp_path, *rows)
  check = check_file(path)
  assert check.source == "ratings" and check.guessed
  said = "\n".join(describe(check))
  assert "a: min 0, median 1.5" in said
  assert "rated on b: 50.0%" in said
  assert "flat (constant, and so without use): min 2" in said
  steer = dict.fromkeys(("helpfulness", "correctness", "coherence"), 1)
  steer |= dict.fromkeys(("complexity", "verbosity"), 0)
  assert check_file(_file(tmp_path, RATED | steer)).source == "ratings"
  cli.main(["data", "check", str(path)])
  assert "ratings" in capsys.readouterr().out


def test_pairs_keep_all_labels(tmp_path):
  path = _file(
    tmp_path,
    PAIR
    | {
      "rater": 7,
      "objective": "harmless",
      "preferences": {"brief": 0.25, "kind": None},
      "strength": 1.5,
      "chosen_unsafe": 0,
      "rejected_unsafe": True,
    },
    PAIR | {"margin": -1, "strength": 9},
  )
  (first, second), _ = data.read_pairs(path)
  assert first.rater == "7" and first.objective == "harmless"
  assert first.preferences == {"brief": 0.25} and first.margin == 1.5
  assert first.chosen_unsafe is False and first.rejected_unsafe is True
  assert second.margin == -1 and second.rater is None
  assert len({first, second}) == 2  # records can be in sets


@pytest.mark.parametrize(
  "more, said",
  [
    ({"rater": " "}, "'rater' is ' ', which is no name"),
    ({"rater": 1.5}, "'rater' is 1.5, which is no name"),
    ({"objective": True}, "'objective' is True, which is no name"),
    ({"preferences": {"a": 1.2}}, "is 1.2 for 'a', outside [0, 1]"),
    ({"margin": "big"}, "'margin' is a str"),
    ({"chosen_unsafe": True}, "'rejected_unsafe' is missing"),
    ({"rejected_unsafe": False}, "'chosen_unsafe' is missing"),
    ({"chosen_unsafe": 2, "rejected_unsafe": 0}, "'chosen_unsafe' is 2"),
  ],
)
def test_bad_labels_of_pairs_are_bad_rows(tmp_path, more, said):
  path = _file(tmp_path, PAIR, PAIR | more)
  with pytest.raises(UserError) as error:
    data.read_pairs(path)
  assert said in error.value.problem and error.value.where == f"{path}:2"


def _encoded(*records):
  tokenizer = data.train_words(["q a b"])
  return data.encode_pairs(records, tokenizer, data.Limits(max_tokens=8))[0]


def _record(line=1, **more):
  return data.PreferenceRecord("q ", "a", "b", f"f:{line}", "q", **more)


def test_pairs_are_encoded_with_their_labels():
  (pair,) = _encoded(
    _record(
      preference=0.75, objective="x", preferences={"y": 0.0}, rater="r",
      margin=2.0, chosen_unsafe=False, rejected_unsafe=True,
    )
  )  # fmt: skip
  assert pair.objectives == {"x": 0.75, "y": 0} and pair.rater == "r"
  assert pair.margin == 2 and not pair.chosen_unsafe and pair.rejected_unsafe
  assert _encoded(_record(objective="x"))[0].objectives == {"x": 1}
  with pytest.raises(UserError, match="under 'x' is 1.0 .* 0.5") as error:
    _encoded(_record(objective="x", preferences={"x": 0.5}))
  assert error.value.where == "f:1"
  with pytest.raises(UserError, match="no 'rater', though 1 of 2") as error:
    _encoded(_record(rater="r"), _record(2))
  assert error.value.where == "f:2"


def test_ratings_are_encoded_and_cut():
  tokenizer = data.train_words(["q a b"])
  record = data.RatingRecord("q ", "a b a b", {"x": 1.0}, "f:1", "q")
  limits = data.Limits(max_tokens=4)
  (encoded,), cut = data.encode_ratings([record], tokenizer, limits)
  assert data.rating_length(encoded) == 4 and encoded.ratings == {"x": 1.0}
  assert encoded.cut[1] > 0 and "1 responses (end)" in cut.summary()


def test_labels_of_pairs_change_fingerprints_only_where_they_are_given():
  ids = np.array([1], np.int32)
  plain = data.EncodedPair(ids, ids, ids, "f:1")
  of = lambda *pairs: fingerprint_of(pairs, ("order",), True)
  # The value before labels were added: checkpoints keep it.
  assert of(plain) == "b21681d79aad33dd"
  others = [
    data.EncodedPair(ids, ids, ids, "f:1", **more)
    for more in (
      {"rater": "a"},
      {"rater": "b"},
      {"objectives": {"a": 1.0}},
      {"objectives": {"b": 1.0}},
      {"margin": 1.0},
      {"chosen_unsafe": True},
      {"rejected_unsafe": True},
    )
  ]
  assert len({of(pair) for pair in (plain, *others)}) == 8


def test_opposite_labels_of_different_raters_are_no_conflict(tmp_path):
  swapped = {"prompt": "q", "chosen": "b", "rejected": "a"}
  both = check_file(_file(tmp_path, PAIR, swapped))
  assert len(both.conflicts) == 1
  for field in ("rater", "objective"):
    rows = PAIR | {field: "x"}, swapped | {field: "y"}
    check = check_file(_file(tmp_path, *rows))
    assert not check.conflicts
    assert f"different {field}s: 2" in "\n".join(describe(check))


def test_balance_of_pairs_labels(tmp_path):
  rows = [
    PAIR | {"prompt": f"q{i}", "margin": i, "chosen_unsafe": False,
            "rejected_unsafe": i > 0}
    for i in range(4)
  ]  # fmt: skip
  said = "\n".join(describe(check_file(_file(tmp_path, *rows))))
  assert "margins: min 0, median 1.5" in said
  assert "chosen is unsafe: 0.0%" in said
  assert "rejected is unsafe: 75.0%" in said
