"""Containers: all give the same rows, and errors that say what to do."""

import json
import sys

import pyarrow
import pyarrow.parquet
import pytest

from jalign import data
from jalign.data.columns import read_columns
from jalign.errors import UserError

TURNS = [
  {"role": "user", "content": "a é"},
  {"role": "assistant", "content": "b"},
]
ROWS = [
  {
    "prompt": f"p{i} é",
    "chosen": "b",
    "rejected": "c",
    "chosen_score": 0.5,
    "messages": TURNS,
  }
  for i in range(5)
]


def _jsonl(folder):
  path = folder / "a.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  return path, None


def _parquet(folder):
  path = folder / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
  return path, None


def _shards(folder):
  path = folder / "shards"
  path.mkdir()
  for i, rows in enumerate((ROWS[:2], ROWS[2:])):
    name = path / f"train-0000{i}-of-00002.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), name)
  return path, None


def _saved(folder):
  import datasets

  datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
  return folder / "saved", None


def _saved_splits(folder):
  import datasets

  splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
  splits.save_to_disk(str(folder / "splits"))
  return folder / "splits", None


def _prepared(folder, version="1.0.0", rows=ROWS):
  """A folder as TFDS prepares it, made without TensorFlow."""
  import numpy as np
  import tensorflow_datasets as tfds
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.core import example_serializer

  text = tfds.features.Text
  turn = {"role": text(), "content": text()}
  features = tfds.features.FeaturesDict(
    {name: text() for name in ("prompt", "chosen", "rejected")}
    | {"chosen_score": np.float32, "messages": tfds.features.Sequence(turn)}
  )
  inside = folder / "tiny" / version
  inside.mkdir(parents=True)
  features.save_config(inside)
  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  splits = []
  for split, some in (("test", rows[:1]), ("train", rows)):
    writer = ArrayRecordWriter(
      str(inside / f"tiny-{split}.array_record-00000-of-00001"), "group_size:1"
    )
    for row in some:
      if isinstance(row, dict):
        encoded = features.encode_example(row)
        row = serializer.serialize_example(encoded)
      writer.write(row)
    writer.close()
    name = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    splits.append(
      {
        "name": split,
        "shardLengths": [str(len(some))],
        "numBytes": "1",
        "filepathTemplate": name,
      }
    )
  info = {
    "name": "tiny",
    "version": version,
    "fileFormat": "array_record",
    "splits": splits,
  }
  (inside / "dataset_info.json").write_text(json.dumps(info))
  return "tfds:tiny:train", folder


@pytest.mark.parametrize(
  "make", [_jsonl, _parquet, _shards, _saved, _saved_splits, _prepared]
)
def test_the_same_records_from_every_container(make, tmp_path):
  path, data_dir = make(tmp_path)
  pairs, report = data.read_pairs(path, data_dir=data_dir)
  assert [p.prompt for p in pairs] == [f"p{i} é" for i in range(5)]
  assert {p.chosen_score for p in pairs} == {0.5}
  assert report.ignored == (("messages", 5),)
  assert len({p.source for p in pairs}) == 5
  assert all(p.source.rpartition(":")[2].isdigit() for p in pairs)
  conversations, _ = data.read_conversations(path, data_dir=data_dir)
  assert [dict(m) for m in conversations[0].messages] == TURNS
  # Single columns, read for the places of some records.
  places = {p.source for p in pairs[1:4]}
  columns = read_columns(path, ("chosen_score", "prompt"), places, data_dir)
  assert columns == {
    p.source: {"chosen_score": 0.5, "prompt": p.prompt} for p in pairs[1:4]
  }
  assert "tensorflow" not in sys.modules


def test_prepared_data_from_the_environment(tmp_path, monkeypatch):
  _prepared(tmp_path)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  pairs, _ = data.read("pairs", "tfds:tiny:train[:2]")
  assert [p.source for p in pairs] == [
    "tfds:tiny:train[:2]:1",
    "tfds:tiny:train[:2]:2",
  ]
  _prepared(tmp_path, "1.10.0", ROWS[:3])
  _prepared(tmp_path, "1.9.0", ROWS[:2])
  assert len(data.read_pairs("tfds:tiny:train")[0]) == 3  # the newest version
  assert len(data.read_pairs("tfds:tiny/1.9.0:train")[0]) == 2


def test_prepared_records_that_are_damaged(tmp_path):
  _prepared(tmp_path, rows=[ROWS[0], b"\xff", ROWS[1]])
  with pytest.raises(UserError, match=":2: the record cannot be read"):
    data.read_pairs("tfds:tiny:train", data_dir=tmp_path)
  pairs, report = data.read_pairs("tfds:tiny:train", "skip", data_dir=tmp_path)
  assert len(pairs) == 2 and report.lines() == {"unreadable": [2]}


def test_prepared_data_that_is_not_there(tmp_path):
  _prepared(tmp_path)
  (tmp_path / "other" / "big" / "1.0.0").mkdir(parents=True)
  (tmp_path / "other" / "big" / "1.0.0" / "dataset_info.json").write_text("{}")
  for name, problem, remedy in (
    ("tfds:hh:train", "is not prepared: there is no", "TFDS_DATA_DIR"),
    ("tfds:tiny", "has the splits test, train", "tfds:tiny:test"),
    ("tfds:tiny:dev", "Unknown split", "array_record"),
    ("tfds:other", "has the configs big", "tfds:other/big"),
    ("tfds:other/big", "cannot be read", "array_record"),
    ("tfds:", "names no prepared data", "tfds:NAME"),
  ):
    with pytest.raises(UserError, match=problem) as caught:
      data.read_pairs(name, data_dir=tmp_path)
    assert remedy in caught.value.remedy


def test_broken_files_and_folders(tmp_path):
  torn = tmp_path / "torn.parquet"
  torn.write_bytes(_parquet(tmp_path)[0].read_bytes()[:-9])
  text = tmp_path / "text.parquet"
  text.write_text("{}")
  empty = tmp_path / "empty"
  empty.mkdir()
  mixed = _shards(tmp_path)[0]
  (mixed / "test-00000-of-00001.parquet").write_bytes(b"")
  broken = tmp_path / "broken"
  broken.mkdir()
  (broken / "state.json").write_text("{}")
  for path, problem, remedy in (
    (torn, "not a whole parquet file", "Fetch it again"),
    (text, "not a whole parquet file", ".jsonl"),
    (tmp_path / "none.parquet", "no such file", "Check the path"),
    (empty, "neither a saved Hugging Face dataset", "save_to_disk"),
    (mixed, "several kinds: test, train", "Name one file"),
    (broken, "not a whole Hugging Face dataset", "save_to_disk"),
  ):
    with pytest.raises(UserError, match=problem) as caught:
      data.read_pairs(path, "skip")
    assert str(path) in str(caught.value) and remedy in caught.value.remedy


def test_a_split_must_be_named(tmp_path):
  import datasets

  dataset = datasets.Dataset.from_list(ROWS)
  both = datasets.DatasetDict({"train": dataset, "test": dataset})
  both.save_to_disk(str(tmp_path / "d"))
  with pytest.raises(UserError, match="holds the splits test, train") as caught:
    data.read_pairs(tmp_path / "d")
  assert str(tmp_path / "d" / "test") in caught.value.remedy
  assert len(data.read_pairs(tmp_path / "d" / "train")[0]) == 5


def test_bad_rows_are_named_by_number(tmp_path):
  rows = [*ROWS[:2], ROWS[0] | {"chosen": " "}]
  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  with pytest.raises(UserError, match=r"a.parquet:3: the chosen response is"):
    data.read_pairs(path)
  _, report = data.read_pairs(path, "skip")
  assert report.lines() == {"empty_response": [3]}
