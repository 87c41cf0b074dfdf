"""The same rows are the same records, whichever container holds them."""

import datetime
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jalign import data

TEMPLATE = (
  "{{ (tools or []) | tojson }}"
  "{% for m in messages %}<{{ m.role }}>{{ m | tojson }}{% endfor %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)

TEXT = st.text("ab é\n\"'", max_size=5)
SAID = TEXT.map(lambda text: text + ".")
# Values of a key are of one kind, because a column has one type.
ARGUMENTS = st.fixed_dictionaries(
  {"city": SAID},
  optional={
    "n": st.none() | st.integers(-9, 2**53),
    "x": st.none() | st.sampled_from([0.5, 2.0, -1e300]),
    "on": st.none() | st.booleans(),
    "inner": st.none()
    | st.fixed_dictionaries({}, optional={"a": TEXT, "b": st.none() | TEXT}),
    "many": st.none()
    | st.lists(st.fixed_dictionaries({}, optional={"k": TEXT}), max_size=2),
    "texts": st.none() | st.lists(TEXT, max_size=2),
  },
)


def _call(arguments):
  function = {"name": "f", "arguments": arguments}
  return {"role": "assistant", "content": None, "tool_calls": [function]}


TURN = st.one_of(
  SAID.map(lambda text: {"role": "assistant", "content": text}),
  st.tuples(SAID, SAID).map(
    lambda two: {
      "role": "assistant",
      "content": two[0],
      "reasoning_content": two[1],
    }
  ),
  ARGUMENTS.map(_call),
)
ROW = st.fixed_dictionaries(
  {
    "prompt": SAID.map(lambda text: [{"role": "user", "content": text}]),
    "chosen": TURN.map(lambda turn: [turn]),
    "rejected": st.just([{"role": "assistant", "content": "no"}]),
  },
  optional={
    "tools": st.none()
    | st.lists(ARGUMENTS.map(lambda some: {"parameters": some}), max_size=2),
    "chosen_score": st.none() | st.floats(-5, 5),
    "note": st.none() | TEXT,
  },
)


def _containers(rows, folder):
  """Yields (container, path) of the rows; Arrow infers the columns' types."""
  import datasets

  text = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "a.jsonl").write_text(text)
  yield "jsonl", folder / "a.jsonl"
  (folder / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
  yield "gzip", folder / "a.jsonl.gz"
  names = dict.fromkeys(name for row in rows for name in row)
  columns = {name: [row.get(name) for row in rows] for name in names}
  table = pyarrow.table(columns)
  try:
    pyarrow.parquet.write_table(table, folder / "a.parquet")
  except pyarrow.ArrowNotImplementedError:
    return  # a field that is an empty object in all rows has no column
  yield "parquet", folder / "a.parquet"
  saved = datasets.Dataset(table)
  saved.save_to_disk(str(folder / "saved"))
  yield "saved", folder / "saved"


@settings(max_examples=12)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_the_same_text_from_every_container(tmp_path_factory, rows):
  folder = tmp_path_factory.mktemp("rows")
  texts = {}
  for name, path in _containers(rows, folder):
    records, _ = data.read_pairs(path, "skip", template=TEMPLATE)
    numbers = [record.source.rpartition(":")[2] for record in records]
    assert numbers == [str(i + 1) for i in range(len(rows))]
    texts[name] = [_sorted(r) for r in records]
  assert all(contents == texts["jsonl"] for contents in texts.values()), texts


def _sorted(record):
  """A record with its keys sorted: columns may have another order."""
  texts = (record.prompt, record.chosen, record.rejected, record.group)
  numbers = (record.preference, record.chosen_score, record.rejected_score)
  return ["".join(sorted(text)) for text in texts], numbers


def test_nulls_at_every_depth(tmp_path):
  """Arrow gives every object the keys that any of them has, as nulls."""
  calls = [{"city": "Oslo"}, {"a": 2, "in": {"b": None, "c": [{"d": 1}, {}]}}]
  rows = [
    {
      "prompt": "p",
      "chosen": [_call(call)],
      "rejected": "no",
      "tools": [{"properties": {name: {"type": "x"} for name in call}}],
    }
    for call in calls
  ]
  texts = ['{"city": "Oslo"}', '{"a": 2, "in": {"c": [{"d": 1}, {}]}}']
  tools = [
    '{"city": {"type": "x"}}',
    '{"a": {"type": "x"}, "in": {"type": "x"}}',
  ]
  for name, path in _containers(rows, tmp_path):
    records, _ = data.read_pairs(path, template=TEMPLATE)
    for record, text, tool in zip(records, texts, tools, strict=True):
      assert f'"arguments": {text}' in record.chosen, name
      assert record.prompt.startswith(f'[{{"properties": {tool}}}]'), name
      assert "null" not in record.prompt + record.chosen


def test_a_response_without_a_score_is_left_out_in_every_container(tmp_path):
  responses = [
    {"text": "b", "score": 1.0},
    {"text": "c", "score": 0.0},
    {"text": "d"},
  ]
  rows = [{"prompt": "a", "responses": responses}]
  for name, path in _containers(rows, tmp_path):
    (record,), report = data.read_ranked(path)
    assert record.scores == (1.0, 0.0), name
    assert report.parts() == {"unscored": [1]}, name


TEXTS = pyarrow.string()
ROLES = pyarrow.dictionary(pyarrow.int8(), TEXTS)
DAY = datetime.datetime(2024, 2, 29, 12)
TYPES = {
  "dates": ({"role": "user", "content": "é", "date": DAY}, None),
  "bytes": ({"role": b"user", "content": "é".encode()}, None),
  "map": ([("role", "user"), ("content", "é")], pyarrow.map_(TEXTS, TEXTS)),
  "words": (
    {"role": "user", "content": "é"},
    pyarrow.struct([("role", ROLES), ("content", TEXTS)]),
  ),
}


@pytest.mark.parametrize("kind", TYPES)
def test_columns_of_other_types(tmp_path, kind):
  """Dates, bytes of text, maps and dictionary-encoded words become JSON's."""
  value, of = TYPES[kind]
  turns = pyarrow.array([[value]], of and pyarrow.list_(of))
  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.table({"prompt": turns}), path)
  (record,), _ = data.read_prompts(path, template=TEMPLATE)
  date = ', "date": "2024-02-29T12:00:00"' if kind == "dates" else ""
  said = f'[]<user>{{"role": "user", "content": "é"{date}}}<assistant>'
  assert (record.prompt, record.group) == (said, "é")
