"""Containers: whatever holds rows yields places and rows, and nothing else.

A row is a dict of plain values, whatever the container: what its fields must
be is the business of the sources. A row that the container itself cannot read
comes as a `BadRow` in its place, so that readers may count it.

  FILE.jsonl, FILE.jsonl.gz   a JSON object a line; any other name as well
  FILE.parquet                or a folder of such files
  FOLDER                      written by `datasets.Dataset.save_to_disk`
  tfds:NAME[/CONFIG][:SPLIT]  prepared as array_record in a local data_dir
"""

import gzip
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

from jalign.data.rows import BadRow, parse_object
from jalign.errors import UserError

Path = str | os.PathLike[str]
Rows = Iterator[tuple[str, dict[str, Any] | BadRow]]


def rows_of(path: Path, data_dir: Path | None = None) -> Rows:
  """Yields (place, row) of what `path` names; places are "path:number".

  Numbers are 1-based: lines of a text file (blank lines count but are no
  rows), rows of anything else.

  Args:
    path: a file, a folder, or "tfds:...".
    data_dir: folder of prepared TFDS data; default $TFDS_DATA_DIR, then
      ~/tensorflow_datasets.

  Raises:
    UserError: it isn't there, or cannot be read as what it says it is.
  """
  name = os.fspath(path)
  if name.startswith("tfds:"):
    from jalign.data.prepared import tfds_rows

    return tfds_rows(name, data_dir)
  if os.path.isdir(name):
    return _folder_rows(pathlib.Path(name))
  if name.endswith(".parquet"):
    return _parquet_rows(name)
  return _json_rows(name)


def _json_rows(name: str) -> Rows:
  opener = gzip.open if name.endswith(".gz") else open
  try:
    with opener(name, "rb") as file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        try:
          row: dict[str, Any] | BadRow = parse_object(line)
        except BadRow as bad:
          row = bad
        yield f"{name}:{number}", row
  except FileNotFoundError:
    raise _missing(name) from None
  except (gzip.BadGzipFile, zlib.error, EOFError) as error:
    raise UserError(
      f"the file is not a whole gzip file ({error}).",
      where=name,
      remedy="Fetch it again, or take .gz off its name if it is plain text.",
    ) from None
  except OSError as error:
    raise UserError(
      f"the file cannot be read ({error.strerror or error}).",
      where=name,
      remedy="Give a file that you may read.",
    ) from None


def _parquet_rows(name: str) -> Rows:
  import pyarrow  # slow to import; only these files need it
  import pyarrow.parquet

  if not os.path.exists(name):
    raise _missing(name)
  number = 0
  try:
    with pyarrow.parquet.ParquetFile(name) as file:
      for batch in file.iter_batches(1024):
        for row in batch.to_pylist():
          number += 1
          yield f"{name}:{number}", row
  except (pyarrow.ArrowException, OSError) as error:
    raise UserError(
      f"the file is not a whole parquet file ({_first_line(error)}).",
      where=name,
      remedy="Fetch it again; a file of JSON lines ends in .jsonl.",
    ) from None


def _folder_rows(folder: pathlib.Path) -> Rows:
  if (folder / "state.json").is_file():
    return _saved_rows(folder)
  splits = sorted(p.parent for p in folder.glob("*/state.json"))
  if len(splits) == 1:
    return _saved_rows(splits[0])
  if splits:
    raise UserError(
      f"the folder holds the splits {', '.join(p.name for p in splits)}.",
      where=str(folder),
      remedy=f"Name one of them: {splits[0]}.",
    )
  shards = sorted(folder.glob("*.parquet"))
  # data/train-00000-of-00002.parquet, as hubs store them: a prefix is a split.
  prefixes = sorted({shard.name.split("-")[0] for shard in shards})
  if len(prefixes) == 1:
    return (found for shard in shards for found in _parquet_rows(str(shard)))
  if shards:
    raise UserError(
      f"the folder holds parquet files of several kinds: "
      f"{', '.join(prefixes)}.",
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


def _saved_rows(folder: pathlib.Path) -> Rows:
  import datasets  # slow to import; only these folders need it

  try:
    saved = datasets.load_from_disk(str(folder))
  except Exception as error:  # whatever a broken folder makes it raise
    raise UserError(
      f"the folder is not a whole Hugging Face dataset ({_first_line(error)}).",
      where=str(folder),
      remedy="Save it again with datasets' save_to_disk.",
    ) from None
  for number, row in enumerate(saved, 1):
    yield f"{folder}:{number}", dict(row)


def _missing(name: str) -> UserError:
  return UserError(
    "there is no such file.",
    where=name,
    remedy=f"Check the path; the working directory is {os.getcwd()}.",
  )


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
