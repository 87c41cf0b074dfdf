"""The JSON lines of `jalign sample`, which a stopped command goes on with."""

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
  """Rows that are there already, and a function that adds others.

  They are in OUT.unfinished, which gets its name at the end and stays where
  that isn't reached: the same command goes on after the last whole part.

  Args:
    out: of the rows; None keeps nothing.
    planned: every row's keys that are known before its response is.
    parts: first row of each part and the row after its last.

  Raises:
    UserError: it can't be written; or what is there is of another command, or
      another process is writing it.
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
      "another process is writing it.",
      where=str(path),
      remedy="Wait for it, or name another --out.",
    ) from None
  except OSError:  # a file system without locks
    pass


def _read(
  file: IO[bytes], path: pathlib.Path, planned: Sequence[Row]
) -> list[Row]:
  """The whole rows of a file, each checked to be the one that is planned."""
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
        f"is of another command; these differ: {', '.join(differ)}.",
        where=f"{path}:{len(rows) + 1}",
        remedy="Give the flags and the data that it was begun with, name"
        " another --out, or delete the file.",
      )
    rows.append(row)
  return rows


def _cut(file: IO[bytes], rows: int) -> None:
  """Drops what follows some rows."""
  file.seek(0)
  for _ in range(rows):
    file.readline()
  file.truncate(file.tell())
  file.seek(0, os.SEEK_END)
