"""Reads TFDS data that was prepared on this machine; nothing is downloaded.

Records are read from array_record files, without TensorFlow.
"""

import os
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from jalign.data.arrow import first_line
from jalign.data.rows import SKIP, UNREAD, BadRow
from jalign.errors import UserError

_NAME = re.compile(r"tfds:([\w.]+)((?:/[\w.-]+)*)(?::(.+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def tfds_rows(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  fields: Collection[str] | None = None,
) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
  """Yields (place, row) of "tfds:NAME[/CONFIG][/VERSION][:SPLIT]".

  Texts are decoded and numbers become Python's. SPLIT may be anything that TFDS
  takes, "train" or "train[:10%]", and may be left out if there is only one.

  Args:
    name: what to read. Without a version, it is the newest prepared one.
    data_dir: folder that holds NAME; by default $TFDS_DATA_DIR, then
      ~/tensorflow_datasets.
    fields: fields to read; any other field's value is `UNREAD`. None reads all.

  Raises:
    UserError: the data isn't prepared there, or is in a form that needs
      TensorFlow; or there is no such config or split.
  """
  match = _NAME.fullmatch(name)
  if not match:
    raise UserError(
      f"{name!r} names no prepared data.",
      remedy="Write tfds:NAME, tfds:NAME/CONFIG or tfds:NAME/CONFIG:SPLIT.",
    )
  dataset, inner, split = match.groups()
  root = pathlib.Path(
    data_dir
    or os.environ.get("TFDS_DATA_DIR")
    or pathlib.Path.home() / "tensorflow_datasets"
  )
  folder = _version_folder(root / dataset / inner.strip("/"), name, root)

  import tensorflow_datasets as tfds  # slow to import

  try:
    builder = tfds.builder_from_directory(str(folder))
    splits = sorted(builder.info.splits)
    if split is None and len(splits) == 1:
      split = splits[0]
    if split is not None:
      source = builder.as_data_source(split=split)
  except Exception as error:  # whatever foreign files make it raise
    raise UserError(
      f"the data in {folder} cannot be read ({first_line(error)}).",
      where=name,
      remedy="Prepare it with file_format=array_record: other forms need "
      "TensorFlow.",
    ) from None
  if split is None:
    raise UserError(
      f"the data has the splits {', '.join(splits)}.",
      where=name,
      remedy=f"Name one: {name}:{splits[0]}.",
    )
  for number in range(len(source)):
    try:
      row: dict[str, Any] | BadRow = {
        key: _plain(value) if fields is None or key in fields else UNREAD
        for key, value in source[number].items()
      }
    except UnicodeDecodeError as error:
      row = BadRow(
        "unreadable",
        f"a text is not UTF-8 ({error.reason}).",
        "Prepare the data again from UTF-8 text.",
      )
    except Exception as error:  # whatever a foreign record makes it raise
      row = BadRow(
        "unreadable",
        f"the record cannot be read ({first_line(error)}).",
        f"Prepare the data again. {SKIP}",
      )
    yield f"{name}:{number + 1}", row


def _version_folder(
  folder: pathlib.Path, name: str, root: pathlib.Path
) -> pathlib.Path:
  """The newest version's folder in `folder`, or `folder` if it is a version.

  Raises:
    UserError: there is no prepared data, or a config has to be named.
  """
  if (folder / "dataset_info.json").is_file():
    return folder
  inside = [p for p in folder.glob("*") if p.is_dir()]
  versions = [
    p
    for p in inside
    if _VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file()
  ]
  if versions:
    return max(versions, key=lambda p: [int(n) for n in p.name.split(".")])
  configs = sorted(p.name for p in inside if any(p.glob("*/dataset_info.json")))
  if configs:
    raise UserError(
      f"the data has the configs {', '.join(configs)}.",
      where=name,
      remedy=f"Name one: tfds:{folder.relative_to(root)}/{configs[0]}.",
    )
  raise UserError(
    f"the data is not prepared: there is no {folder}.",
    where=name,
    remedy="Prepare it where there is a network, by tfds.builder(NAME, "
    'data_dir=DIR, file_format="array_record").download_and_prepare(), and '
    "give that folder as data_dir or in TFDS_DATA_DIR.",
  )


def _plain(value: Any) -> Any:
  """Turns bytes into text, and arrays and scalars into Python's values."""
  if isinstance(value, bytes):
    return value.decode()
  if isinstance(value, dict):
    return {key: _plain(v) for key, v in value.items()}
  if isinstance(value, np.ndarray):
    return _plain(value.tolist())
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  return value.item() if isinstance(value, np.generic) else value
