"""Reads rows of Arrow tables: parquet files, and folders saved by `datasets`.

Columns that the reader doesn't ask for aren't decoded.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from jalign.data.lines import FREE, MAX_ROW, Unpacked, file_size, too_long
from jalign.data.plain import parse_json
from jalign.data.rows import SKIP, UNREAD, BadRow, quoted
from jalign.errors import UserError

Rows = Iterator[tuple[str, dict[str, Any] | BadRow]]

_AT_A_TIME = 64  # rows decoded at a time, at most


def parquet_rows(name: str, fields: Collection[str] | None = None) -> Rows:
  """Yields ("file:row number", row) for each row of a parquet file.

  Args:
    name: the file.
    fields: columns to read; any other column's value is `UNREAD`. None reads
      all columns.

  Raises:
    UserError: the file isn't there, isn't a whole parquet file, unpacks to far
      more than its size, or has a row of more than `MAX_ROW` bytes.
  """
  import pyarrow.parquet  # slow to import; only these files need it

  unpacked = Unpacked(name, file_size(name))
  try:
    with pyarrow.parquet.ParquetFile(name) as file:
      read, unread = _columns(file.schema_arrow.names, fields, name)
      batches = file.iter_batches(_at_a_time(file, read), columns=read)
      yield from _rows(batches, name, unread, unpacked)
  except UserError:
    raise
  except Exception as error:  # whatever a foreign file makes it raise
    raise UserError(
      f"the file is not a whole parquet file ({first_line(error)}).",
      where=name,
      remedy="Fetch it again; a file of JSON lines ends in .jsonl.",
    ) from None


def _at_a_time(file: Any, columns: Collection[str]) -> int:
  """How many rows to decode at a time, so that they take about `FREE` bytes.

  Parquet stores a repeated value once, so that a single decoded row may need
  as many bytes as a whole row group takes in the file.
  """
  most = 1
  for number in range(file.num_row_groups):
    group = file.metadata.row_group(number)
    chunks = map(group.column, range(group.num_columns))
    size = sum(
      chunk.total_uncompressed_size
      for chunk in chunks
      if chunk.path_in_schema in columns
      or any(chunk.path_in_schema.startswith(f"{name}.") for name in columns)
    )
    most = max(most, size)
  return max(1, min(_AT_A_TIME, FREE // most))


def saved_rows(
  folder: pathlib.Path, fields: Collection[str] | None = None
) -> Rows:
  """Yields rows of a folder saved by `datasets`.

  Args and Raises as in `parquet_rows`.
  """
  import datasets  # slow to import; only these folders need it

  size = sum(file_size(name) for name in _files_of(folder))
  try:
    saved = datasets.load_from_disk(str(folder)).with_format("arrow")
    read, unread = _columns(saved.column_names, fields, str(folder))
    batches: Iterable[Any] = (
      batch
      for table in saved.select_columns(read).iter(_AT_A_TIME)
      for batch in table.combine_chunks().to_batches()
    )
    if not read:
      batches = _Empty(len(saved)).batches()
    yield from _rows(batches, str(folder), unread, Unpacked(str(folder), size))
  except UserError:
    raise
  except Exception as error:  # whatever a broken folder makes it raise
    raise UserError(
      f"the folder is not a whole Hugging Face dataset ({first_line(error)}).",
      where=str(folder),
      remedy="Save it again with datasets' save_to_disk.",
    ) from None


class _Empty:
  """A table without columns; Arrow's own forgets how many rows it has."""

  nbytes = 0

  def __init__(self, num_rows: int):
    self.num_rows = num_rows
    self.schema: tuple[Any, ...] = ()

  def batches(self) -> Iterator["_Empty"]:
    yield self

  def to_pylist(self, maps_as_pydicts: str) -> list[dict[str, Any]]:
    del maps_as_pydicts
    return [{}] * self.num_rows


def _files_of(folder: pathlib.Path) -> list[str]:
  """The files that a saved dataset lists; all must lie in its folder."""
  try:
    state = json.loads((folder / "state.json").read_bytes())
    names = [file["filename"] for file in state["_data_files"]]
    if any(os.path.basename(name) != name for name in names):
      raise ValueError("it lists files outside the folder")
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise UserError(
      f"the folder is not a whole Hugging Face dataset ({first_line(error)}).",
      where=str(folder),
      remedy="Save it again with datasets' save_to_disk.",
    ) from None
  return [str(folder / name) for name in names]


def _columns(
  names: Collection[str], fields: Collection[str] | None, where: str
) -> tuple[list[str], list[str]]:
  """(names of the columns to read, names of the other columns)."""
  read = [name for name in names if fields is None or name in fields]
  twice = next((name for name in read if read.count(name) > 1), None)
  if twice is not None:
    raise UserError(
      f"two columns have the name {quoted(twice)}.",
      where=where,
      remedy="Write the data again with only one of them.",
    )
  return read, [name for name in names if name not in read]


def _rows(
  batches: Iterable[Any], name: str, unread: list[str], unpacked: Unpacked
) -> Rows:
  others = dict.fromkeys(unread, UNREAD)
  number = 0
  for batch in batches:
    parsers = _parsers((field.name, field.type) for field in batch.schema)
    rows: list[Any] | None = None
    if batch.nbytes <= MAX_ROW:
      with contextlib.suppress(Exception):  # the bad row is found below
        rows = batch.to_pylist(maps_as_pydicts="strict")
    for i in range(batch.num_rows):
      number += 1
      where = f"{name}:{number}"
      row = rows[i] if rows is not None else _row(batch.slice(i, 1), where)
      if not isinstance(row, BadRow):
        size = _size(row)  # Arrow's size counts a repeated text only once
        if size > MAX_ROW:
          raise too_long(where)
        unpacked.add(size, where)
        try:
          row = {**_parsed(row, parsers), **others}
        except BadRow as bad:
          row = bad
      yield where, row


def _row(batch: Any, where: str) -> dict[str, Any] | BadRow:
  """The only row of a batch, or why it cannot be read."""
  if batch.nbytes > MAX_ROW:
    raise too_long(where)
  try:
    return batch.to_pylist(maps_as_pydicts="strict")[0]
  except Exception as error:  # text that isn't UTF-8, a date out of range ...
    return BadRow(
      "unreadable",
      f"the row cannot be read ({first_line(error)}).",
      f"Write it again. {SKIP}",
    )


def _size(value: Any) -> int:
  """Characters of all texts in a value; any other value counts as 8."""
  if isinstance(value, str | bytes):
    return len(value)
  if isinstance(value, dict):
    return sum(map(_size, value.values()))
  if isinstance(value, list | tuple):
    return sum(map(_size, value))
  return 8


Parser = Callable[[Any], Any]


def _parser(kind: Any) -> Parser | None:
  """The function that parses the JSON texts in values of an Arrow type.

  Fields of type `arrow.json` may lie at any depth. Returns None for a type
  without them.
  """
  import pyarrow as pa

  if isinstance(kind, pa.JsonType):
    return _json
  if isinstance(kind, pa.BaseExtensionType):
    return _parser(kind.storage_type)
  if pa.types.is_struct(kind):
    parsers = _parsers((field.name, field.type) for field in kind.fields)
    return (lambda value: _parsed(value, parsers)) if parsers else None
  if pa.types.is_map(kind):
    item = _parser(kind.item_type)
    return item and (
      lambda value: value and {key: item(v) for key, v in value.items()}
    )
  if pa.types.is_dictionary(kind):
    return _parser(kind.value_type)
  if not pa.types.is_nested(kind) or pa.types.is_union(kind):
    return None
  entry = _parser(kind.value_type)  # any of Arrow's list types
  return entry and (lambda value: value and [entry(v) for v in value])


def _parsers(fields: Iterable[tuple[str, Any]]) -> dict[str, Parser]:
  by_name = {name: _parser(kind) for name, kind in fields}
  return {name: parser for name, parser in by_name.items() if parser}


def _parsed(row: Any, parsers: dict[str, Parser]) -> Any:
  if not parsers or row is None:
    return row
  return row | {
    name: parser(row[name]) for name, parser in parsers.items() if name in row
  }


def _json(value: str | None) -> Any:
  if value is None:
    return None
  try:
    return parse_json(value)
  except (ValueError, RecursionError) as error:
    raise BadRow(
      "json",
      f"a column of JSON holds text that is not JSON ({first_line(error)}).",
      f"Write it again. {SKIP}",
    ) from None


def first_line(error: Exception) -> str:
  """The first line of another library's error, at most 200 characters."""
  said = (str(error).splitlines() or [""])[0].rstrip(".")[:200]
  return said or type(error).__name__
