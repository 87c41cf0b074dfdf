"""Files whose fields have other names than a source's."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from jalign import cli, data
from jalign.data.columns import read_columns
from jalign.data.file_check import check_file
from jalign.errors import UserError

ROWS = [
  {"question": "a", "best": "b", "meta": {"worst": "c", "n": 1}, "x": 1},
  {"question": "d", "best": "e", "meta": {"worst": "f", "n": 2}, "x": None},
]
COLUMNS = {"prompt": "question", "chosen": "best", "rejected": "meta.worst"}


def _write(path, rows):
  if path.suffix == ".parquet":
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  else:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.fixture(params=["a.jsonl", "a.parquet"])
def path(tmp_path, request):
  return _write(tmp_path / request.param, ROWS)


def test_columns_are_the_fields_of_a_source(path):
  records, report = data.read("pairs", path, columns=COLUMNS)
  fields = [(r.prompt, r.chosen, r.rejected) for r in records]
  assert fields == [("a", "b", "c"), ("d", "e", "f")]
  # Columns of a parquet file that aren't read aren't checked.
  assert dict(report.ignored) == {"x": 2 if path.suffix == ".parquet" else 1}
  check = check_file(path, columns=COLUMNS, against=path)
  assert (check.source, len(check.overlap.rows)) == ("pairs", 2)


def test_a_name_with_a_dot_and_names_that_change_places(tmp_path):
  rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "a.b": "d"}]
  path = _write(tmp_path / "a.jsonl", rows)
  swapped = {"chosen": "rejected", "rejected": "chosen"}
  (record,), report = data.read_pairs(path, columns=swapped)
  assert (record.chosen, record.rejected) == ("c", "b")
  assert report.ignored == (("a.b", 1),)
  (record,), report = data.read_pairs(path, columns={"chosen": "a.b"})
  assert record.chosen == "d"
  assert report.ignored == (("chosen", 1),)  # "a.b" stands in for it


def test_every_source_takes_columns(tmp_path):
  good = {
    "binary": ({"prompt": "a", "response": "b", "label": 1}, "label"),
    "demonstrations": ({"prompt": "a", "response": "b"}, "response"),
    "ratings": (
      {"prompt": "a", "response": "b", "ratings": {"c": 1}},
      "ratings",
    ),
    "prompts": ({"prompt": "a"}, "prompt"),
    "hh": (
      {
        "chosen": "\n\nHuman: a\n\nAssistant: b",
        "rejected": "\n\nHuman: a\n\nAssistant: c",
      },
      "chosen",
    ),
    "shp": (
      {"history": "a", "human_ref_A": "b", "human_ref_B": "c", "labels": 1},
      "labels",
    ),
    "ranked": (
      {"prompt": "a", "responses": ["b", "c"], "scores": [1, 2]},
      "scores",
    ),
    "ultrafeedback": (
      {
        "instruction": "a",
        "completions": [
          {"response": "b", "overall_score": 1},
          {"response": "c", "overall_score": 2},
        ],
      },
      "completions",
    ),
    "conversations": (
      {
        "messages": [
          {"role": "user", "content": "a"},
          {"role": "assistant", "content": "b"},
        ]
      },
      "messages",
    ),
    "forum": (
      {
        "question": "a",
        "answers": [{"text": "b", "upvotes": 1}, {"text": "c", "upvotes": 2}],
      },
      "answers",
    ),
    "critiques": (
      {"prompt": "a", "chosen": "b", "rejected": "c"}
      | {"chosen_critique": "d", "rejected_critique": "e"},
      "chosen_critique",
    ),
  }
  flat = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "a"}
  replies = [
    {"message_id": i, "parent_id": "1", "role": "assistant", "rank": 0}
    | {"text": i}
    for i in "23"
  ]
  files = {name: ([row], field) for name, (row, field) in good.items()}
  files["openassistant"] = ([flat, *replies], "text")
  assert {*files, "pairs", "jsonl", "tldr_world"} == set(data.SOURCES)
  for name, (rows, field) in files.items():
    other = [
      {"other" if key == field else key: v for key, v in row.items()}
      for row in rows
    ]
    options = {"template": data.PLAIN_CHAT} if name == "openassistant" else {}
    plain, _ = data.read(name, _write(tmp_path / "a.jsonl", rows), **options)
    path = _write(tmp_path / "a.jsonl", other)
    records, _ = data.read(name, path, columns={field: "other"}, **options)
    assert records == plain


def test_wrong_names_say_what_there_is(path):
  for columns, problem, remedy in (
    (
      {"promt": "question"},
      "columns: the source reads no field 'promt'",
      "pro",
    ),
    ({"prompt": "qestion"}, "the file has no column 'qestion'", "'question'?"),
    (COLUMNS | {"rejected": "meta.wort"}, "no column 'meta.wort'", "'meta'"),
    (COLUMNS | {"rejected": "x.worst"}, "no column 'x.worst'", "'best'"),
    (COLUMNS | {"preference": "p"}, "no column 'p', which is to be", "'x'"),
    (COLUMNS | {"chosen": ""}, "columns.chosen: '' names no column", ""),
    (COLUMNS | {"chosen": 3}, "columns.chosen: 3 names no column", ""),
  ):
    for on_error in ("error", "skip"):
      with pytest.raises(UserError, match=problem) as caught:
        data.read_pairs(path, on_error, columns=columns)
      assert remedy in caught.value.remedy
  with pytest.raises(UserError, match="'tldr_world' reads no file"):
    data.read("tldr_world", "sft[:2]", columns=COLUMNS)


def test_columns_by_themselves(path):
  places = [f"{path}:{i}" for i in (1, 2)]
  assert read_columns(path, ("meta.n", "x", "meta"), places) == {
    places[0]: {"meta.n": 1, "x": 1, "meta": ROWS[0]["meta"]},
    places[1]: {"meta.n": 2, "x": None, "meta": ROWS[1]["meta"]},
  }
  assert read_columns(path, ("x",), places[:1]) == {places[0]: {"x": 1}}
  for name, remedy in (("qestion", "'question'?"), ("meta.m", "'meta'")):
    with pytest.raises(UserError, match=f"no row has the column '{name}'") as e:
      read_columns(path, ("x", name), places)
    assert remedy in e.value.remedy and e.value.where == str(path)


def test_a_column_that_is_no_text_is_told_with_its_line(tmp_path):
  rows = [{"prompt": "a", "answer": b"\xff"}, {"prompt": "b", "answer": b"c"}]
  path = _write(tmp_path / "a.parquet", rows)
  assert read_columns(path, ("answer",), [f"{path}:2"]) == {
    f"{path}:2": {"answer": "c"}
  }
  with pytest.raises(UserError, match=r"a.parquet:1: field 'answer' holds by"):
    read_columns(path, ("answer",), [f"{path}:1"])


def test_the_command_takes_columns(path, capsys):
  names = ",".join(f"{field}={column}" for field, column in COLUMNS.items())
  cli.main(["data", "check", str(path), f"--columns={names}"])
  assert "read 2 pairs, used 2" in capsys.readouterr().out
  for wrong, said in (
    ("prompt", "--columns: 'prompt' is not FIELD=COLUMN"),
    ("prompt=qestion", "Did you mean 'question'?"),
  ):
    with pytest.raises(SystemExit):
      cli.main(["data", "check", str(path), f"--columns={wrong}"])
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_line_without_a_column_is_told_by_the_file_s_own_names(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text(
    '{"q": "a", "good": "b", "bad": "c"}\n{"q": "a", "good": "b"}'
  )
  columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
  with pytest.raises(UserError) as caught:
    data.read("pairs", path, columns=columns)
  said = "column 'bad' (field 'rejected') is missing"
  assert said in str(caught.value) and "has 'q', 'good')" in str(caught.value)
  assert "--config.data.on_error=skip" in caught.value.remedy
  with pytest.raises(UserError, match="--config.data.columns=chosen=COLUMN"):
    data.read("pairs", path)
