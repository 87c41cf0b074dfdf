"""Files that never end, or hold far more than their size suggests."""

import gzip
import json
import os
import socket

import pyarrow
import pyarrow.parquet
import pytest

from jalign import data
from jalign.data import arrow, lines
from jalign.errors import UserError

ROW = {"prompt": "a", "chosen": "b", "rejected": "c"}


def _refused(path, problem, **options):
  for on_error in ("error", "skip"):
    with pytest.raises(UserError, match=problem) as caught:
      data.read_pairs(path, on_error, **options)
    assert str(path) in str(caught.value) and caught.value.remedy


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, monkeypatch):
  for name in ("pipe.jsonl", "pipe.jsonl.gz", "pipe.parquet"):
    os.mkfifo(tmp_path / name)
    _refused(tmp_path / name, "this is a pipe, not a file")
  _refused("/dev/zero", "this is a device")
  _refused("/dev/null", "this is a device")
  with socket.socket(socket.AF_UNIX) as endpoint:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    endpoint.bind("s")
    _refused(tmp_path / "s", "this is a socket")
  folder = tmp_path / "shards"
  folder.mkdir()
  os.mkfifo(folder / "0000.parquet")
  _refused(folder, "this is a pipe")
  (folder / "0000.parquet").unlink()
  (folder / "0000.parquet").mkdir()
  _refused(folder, "this is a folder")
  saved = tmp_path / "saved"
  saved.mkdir()
  os.mkfifo(saved / "data.arrow")
  for name, problem in (
    ("data.arrow", "this is a pipe"),
    ("../../etc/passwd", "files outside the folder"),
    ("none.arrow", "no such file"),
  ):
    state = {"_data_files": [{"filename": name}]}
    (saved / "state.json").write_text(json.dumps(state))
    _refused_in(saved, problem)
  for state in ("[]", "{", '{"_data_files": 3}', '{"_data_files": [{}]}'):
    (saved / "state.json").write_text(state)
    _refused_in(saved, "not a whole Hugging Face dataset")


def _refused_in(folder, problem):
  with pytest.raises(UserError, match=problem):
    data.read_pairs(folder)


def test_a_line_has_a_longest_length(tmp_path, monkeypatch):
  for module in (lines, arrow):
    monkeypatch.setattr(module, "MAX_ROW", 1000)
  long = ROW | {"chosen": "b" * 1000}
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(ROW) + "\n" + json.dumps(long) + "\n")
  _refused(path, "a.jsonl:2: the row has more than 1,000 bytes")
  sparse = tmp_path / "b.jsonl"
  with sparse.open("wb") as file:
    file.truncate(1 << 40)  # a terabyte of zeros, on one line
  _refused(sparse, "b.jsonl:1: the row has more than")
  path = tmp_path / "a.parquet"
  table = pyarrow.Table.from_pylist([ROW] * 99 + [long])
  pyarrow.parquet.write_table(table, path)
  _refused(path, "a.parquet:100: the row has more than")
  assert len(data.read_prompts(path)[0]) == 100  # nobody reads that column


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(lines, "FREE", 1 << 16)
  path = tmp_path / "a.jsonl.gz"
  line = json.dumps(ROW).encode() + b"\n"
  path.write_bytes(gzip.compress(line * 500))
  assert len(data.read_pairs(path)[0]) == 500
  path.write_bytes(gzip.compress(line * 3000))
  _refused(path, "a.jsonl.gz:[0-9]+: the file unpacks to more than 65,536")
  path.write_bytes(gzip.compress(b"\n" * (1 << 18)))
  _refused(path, "the file unpacks to more than")
  monkeypatch.setattr(lines, "_BLANK", 100)
  _refused(path, "a.jsonl.gz:101: there are more than 100 blank lines")
  path = tmp_path / "a.parquet"
  table = pyarrow.table({name: [name * 200] * 3000 for name in ROW})
  pyarrow.parquet.write_table(table, path)
  _refused(path, "a.parquet:[0-9]+: the file unpacks to more than")


def test_a_value_stored_once_is_not_decoded_often(tmp_path, monkeypatch):
  """Every row of a file may refer to the same page of 4 MiB."""
  path = tmp_path / "a.parquet"
  turn = {"role": "user", "content": "x" * (4 << 20)}
  often = pyarrow.array([[turn]]).take([0] * 20)
  table = pyarrow.table({"prompt": ["a"] * 20, "chosen": often})
  pyarrow.parquet.write_table(
    table, path, dictionary_pagesize_limit=8 << 20, compression="zstd"
  )
  assert path.stat().st_size < 1 << 18
  monkeypatch.setattr(arrow, "FREE", 64 << 20)
  with pyarrow.parquet.ParquetFile(path) as file:
    assert arrow._at_a_time(file, ["prompt"]) == 64
    assert 8 < arrow._at_a_time(file, ["prompt", "chosen"]) <= 16


def test_words_of_a_dictionary_count_each_time(tmp_path, monkeypatch):
  monkeypatch.setattr(lines, "FREE", 1 << 16)
  path = tmp_path / "a.parquet"
  words = pyarrow.array(["x" * 1000]).dictionary_encode().take([0] * 500)
  table = pyarrow.table({"prompt": words, "n": [1] * 500})
  pyarrow.parquet.write_table(table, path)
  with pytest.raises(UserError, match="the file unpacks to more than"):
    data.read_prompts(path)
  monkeypatch.setattr(arrow, "MAX_ROW", 999)
  with pytest.raises(UserError, match=":1: the row has more than"):
    data.read_prompts(path)


def test_columns_that_nobody_reads_are_not_decoded(tmp_path, monkeypatch):
  import datasets

  path = tmp_path / "a.parquet"
  table = pyarrow.Table.from_pylist([ROW | {"image": b"x" * 50, "n": 1}] * 3)
  pyarrow.parquet.write_table(table, path)
  seen = []
  columns = arrow._columns
  monkeypatch.setattr(
    arrow, "_columns", lambda *a: seen.append(columns(*a)) or seen[-1]
  )
  _, report = data.read_pairs(path)
  assert sorted(seen[-1][0]) == sorted(ROW)
  assert report.ignored == (("image", 3), ("n", 3))
  features = datasets.Features(
    {name: datasets.Value("string") for name in ROW}
    | {"image": datasets.Image()}
  )
  rows = [ROW | {"image": {"bytes": b"no image", "path": None}}] * 2
  saved = datasets.Dataset.from_list(rows, features=features)
  saved.save_to_disk(str(tmp_path / "saved"))
  _, report = data.read_pairs(tmp_path / "saved")  # would need a decoder
  assert report.used == 2 and report.ignored == (("image", 2),)
  # A file that lacks one of the columns still has rows.
  for place in (path, tmp_path / "saved"):
    with pytest.raises(UserError, match=":1: field 'messages' is missing"):
      data.read_conversations(place)


def test_rows_that_arrow_cannot_read_are_bad_rows(tmp_path):
  texts = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
  dates = pyarrow.array([1, 2, 2**60], pyarrow.timestamp("us"))
  turn = pyarrow.StructArray.from_arrays(
    [pyarrow.array(["user"] * 3), texts, dates], ["role", "content", "date"]
  )
  offsets = pyarrow.array([0, 1, 2, 3], pyarrow.int32())
  turns = pyarrow.ListArray.from_arrays(offsets, turn)
  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.table({"prompt": turns}), path)
  records, report = data.read_prompts(path, "skip", template=data.PLAIN_CHAT)
  assert [r.prompt for r in records] == ["user: a\n\nassistant:"]
  assert report.lines() == {"unreadable": [2, 3]}


def test_two_columns_of_one_name_are_refused(tmp_path):
  path = tmp_path / "a.parquet"
  values = [pyarrow.array(["a"])] * 4
  names = ["prompt", "chosen", "rejected", "chosen"]
  pyarrow.parquet.write_table(pyarrow.table(values, names), path)
  _refused(path, "two columns have the name 'chosen'")


def test_folders_of_numbered_files(tmp_path):
  def write(folder, *names):
    inside = tmp_path / folder
    inside.mkdir()
    for i, name in enumerate(names):
      rows = [ROW | {"prompt": f"p{i}"}]
      pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), inside / name
      )
    return inside

  for folder, names in (
    ("hub", ("0000.parquet", "0001.parquet", "0002.parquet")),
    ("dask", ("part.2.parquet", "part.9.parquet", "part.10.parquet")),
    ("spark", [f"part-0000{i}-a-b.snappy.parquet" for i in range(3)]),
    ("whole", [f"train-0000{i}-of-00003.parquet" for i in range(3)]),
  ):
    records, _ = data.read_pairs(write(folder, *names))
    assert [r.prompt for r in records] == ["p0", "p1", "p2"]  # in their order
  torn = write("torn", "t-00000-of-00003.parquet", "t-00002-of-00003.parquet")
  with pytest.raises(UserError, match="holds 2 of 3 files"):
    data.read_pairs(torn)
  mixed = write("mixed", "0000.parquet", "test.parquet")
  with pytest.raises(UserError, match="several kinds: 0000.parquet, test"):
    data.read_pairs(mixed)


def test_template_files_without_an_end(tmp_path):
  os.mkfifo(tmp_path / "pipe.jinja")
  (tmp_path / "long.jinja").write_bytes(b" " * ((1 << 20) + 1))
  for name, problem in (
    (tmp_path / "pipe.jinja", "this is a pipe"),
    ("/dev/zero", "this is a device"),
    (tmp_path / "long.jinja", "more than 1,048,576 bytes"),
  ):
    with pytest.raises(UserError, match=problem):
      data.load_template(name)
