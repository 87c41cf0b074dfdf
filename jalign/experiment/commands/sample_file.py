"""The JSON lines of `jalign sample`, which a later command can continue."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from jalign.errors import UserError
from jalign.files import telling

Row = dict[str, Any]


@contextlib.contextmanager
def unfinished(
  out: pathlib.Path | None,
  planned: Sequence[Row],
  parts: Sequence[tuple[int, int]],
) -> Iterator[tuple[list[Row], Callable[[Sequence[Row]], None]]]:
  """Opens the rows that are already written, and adds others to them.

  The rows are in OUT.unfinished, which is renamed to OUT at the end. It stays
  if the command stops before: the same command then continues after the last
  whole part.

  Args:
    out: file of the rows; None keeps nothing.
    planned: for every row, the keys that are known before its response is.
    parts: (first row, row after the last) of each part.

  Yields:
    (rows already written, function that adds rows).

  Raises:
    UserError: the file can't be written, belongs to another command, or is
      being written by another process.
  """
  if out is None:
    yield [], lambda rows: None
    return
  path = out.with_name(out.name + ".unfinished")
  said = lambda: f"What {path} has is kept."
  with telling(out.parent, said):
    out.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
      _lock(file, path)
      there = _read(file, path, planned)
      whole = max((b for _, b in parts if b <= len(there)), default=0)
      del there[whole:]
      _cut(file, whole)

      def write(rows: Sequence[Row]) -> None:
        lines = [
          json.dumps(row, ensure_ascii=False, default=str) for row in rows
        ]
        file.write(
          ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        )
        file.flush()

      try:
        yield there, write
        os.fsync(file.fileno())
        path.replace(out)
      finally:
        if path.exists() and not path.stat().st_size:
          path.unlink()


def _lock(file: IO[bytes], path: pathlib.Path) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise UserError(
      "another process is writing this file.",
      where=str(path),
      remedy="Wait for that process, or name another --out.",
    ) from None
  except OSError:  # a file system without locks
    pass


def _read(
  file: IO[bytes], path: pathlib.Path, planned: Sequence[Row]
) -> list[Row]:
  """The whole rows of a file, all checked against the planned ones."""
  file.seek(0)
  rows: list[Row] = []
  for line in file:
    if not line.endswith(b"\n"):
      break  # the process was killed while it wrote
    differ = ["rows"] if len(rows) >= len(planned) else []
    try:
      row = json.loads(line)
      want = (
        json.loads(json.dumps(planned[len(rows)], default=str))
        if not differ
        else {}
      )
      differ += [k for k, v in want.items() if row.get(k, ...) != v]
    except (ValueError, RecursionError, AttributeError):
      differ = ["what it holds"]
    if differ:
      raise UserError(
        f"the file is from another command; these differ: {', '.join(differ)}.",
        where=f"{path}:{len(rows) + 1}",
        remedy="Give the flags and the data that the file was begun with, name"
        " another --out, or delete the file.",
      )
    rows.append(row)
  return rows


def _cut(file: IO[bytes], rows: int) -> None:
  """Drops everything after the first rows of a file."""
  file.seek(0)
  for _ in range(rows):
    file.readline()
  file.truncate(file.tell())
  file.seek(0, os.SEEK_END)
