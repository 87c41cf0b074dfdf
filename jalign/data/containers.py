"""Containers of rows: files, folders and data sets that yield (place, row).

A row is a dict of plain values, whatever the container. What its fields must be
is for the sources to say. A row that the container itself cannot read comes as
a `BadRow`, so that readers may count it.

  FILE.jsonl, FILE.jsonl.gz   a JSON object per line; also any other file name
  FILE.parquet                or a folder of parquet files
  FOLDER                      written by `datasets.Dataset.save_to_disk`
  tfds:NAME[/CONFIG][:SPLIT]  prepared as array_record in a local data_dir
"""

import os
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import Any

from jalign.data.arrow import Rows, parquet_rows, saved_rows
from jalign.data.lines import lines_of
from jalign.data.plain import parse_object
from jalign.data.rows import BadRow
from jalign.errors import UserError

Path = str | os.PathLike[str]


def rows_of(
  path: Path,
  data_dir: Path | None = None,
  fields: Collection[str] | None = None,
) -> Rows:
  """Yields (place, row) for each row of `path`; a place is "path:number".

  Numbers start at 1. They count the lines of a text file (blank lines count but
  are no rows), and the rows of any other container.

  Args:
    path: a file, a folder, or "tfds:...".
    data_dir: folder of prepared TFDS data; default $TFDS_DATA_DIR, then
      ~/tensorflow_datasets.
    fields: names of the fields that are wanted: containers of columns decode
      no others, and give `UNREAD` for them. None wants all.

  Raises:
    UserError: `path` isn't there, cannot be read as what its name says, or has
      no end: a pipe, a device, a file that unpacks to far more than its size, a
      row of more than `lines.MAX_ROW` bytes.
  """
  name = os.fspath(path)
  if name.startswith("tfds:"):
    from jalign.data.tfds_folder import tfds_rows

    return tfds_rows(name, data_dir, fields)
  if os.path.isdir(name):
    return _folder_rows(pathlib.Path(name), fields)
  if name.endswith(".parquet"):
    return parquet_rows(name, fields)
  return _json_rows(name)


def _json_rows(name: str) -> Rows:
  for number, line in lines_of(name):
    try:
      row: dict[str, Any] | BadRow = parse_object(line)
    except BadRow as bad:
      row = bad
    yield f"{name}:{number}", row


def _folder_rows(folder: pathlib.Path, fields: Collection[str] | None) -> Rows:
  if (folder / "state.json").is_file():
    return saved_rows(folder, fields)
  splits = sorted(p.parent for p in folder.glob("*/state.json"))
  if len(splits) == 1:
    return saved_rows(splits[0], fields)
  if splits:
    raise UserError(
      f"the folder holds the splits {', '.join(p.name for p in splits)}.",
      where=str(folder),
      remedy=f"Name one of them: {splits[0]}.",
    )
  shards = sorted(folder.glob("*.parquet"), key=_in_order)
  kinds = sorted({_kind(shard) for shard in shards})
  if len(kinds) == 1:
    _check_whole(folder, shards)
    return (row for shard in shards for row in parquet_rows(str(shard), fields))
  if shards:
    raise UserError(
      f"the folder holds parquet files of several kinds: "
      f"{', '.join(kind or '0000.parquet' for kind in kinds)}.",
      where=str(folder),
      remedy=f"Name one file, say {shards[0]}, or put each kind in a folder.",
    )
  raise UserError(
    "the folder cannot be read: it holds neither a saved Hugging Face "
    "dataset nor parquet files.",
    where=str(folder),
    remedy="Give a file (not a folder) of JSON lines, or a folder written by "
    "datasets' save_to_disk.",
  )


def _kind(shard: pathlib.Path) -> str:
  """The name that a split's files share: "train" of train-00000-of-00002.

  It is "" for 0000.parquet, as hubs name the files of a folder of one split.
  """
  name = re.match(r"[^-]*", shard.name.removesuffix(".parquet"))
  return re.sub(r"[._]?\d+$", "", name[0] if name else "")


def _in_order(shard: pathlib.Path) -> list[tuple[int, str]]:
  """A sort key that puts file 2 before file 10."""
  parts = re.split(r"(\d+)", shard.name)
  return [(int(p) if p.isdecimal() else 0, p) for p in parts]


def _check_whole(folder: pathlib.Path, shards: Sequence[pathlib.Path]) -> None:
  """Raises UserError where a file of a numbered set is missing."""
  totals = {
    int(match[1])
    for shard in shards
    if (match := re.search(r"-of-(\d{1,9})\.parquet$", shard.name))
  }
  if totals and totals != {len(shards)}:
    raise UserError(
      f"the folder holds {len(shards)} of {max(totals)} files.",
      where=str(folder),
      remedy="Fetch them all, or name one file.",
    )
