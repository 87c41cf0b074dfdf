"""Reads lines of files by strangers, in bounded memory and without waiting."""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator

from jalign.errors import UserError

MAX_ROW = 64 << 20  # bytes of a row, unpacked
FREE = 1 << 30  # bytes that any file may unpack to
_BLANK = 1_000_000  # blank lines on end that are passed over
_TIMES = 100  # a file larger than FREE and this many times its size is a bomb

_KINDS = (
  (stat.S_ISFIFO, "a pipe"),
  (stat.S_ISCHR, "a device"),
  (stat.S_ISBLK, "a device"),
  (stat.S_ISSOCK, "a socket"),
  (stat.S_ISDIR, "a folder"),
)


def file_size(name: str) -> int:
  """The size of a regular file, in bytes.

  Raises:
    UserError: the file isn't there, can't be read, or is a folder, a pipe, a
      device or a socket.
  """
  try:
    status = os.stat(name)
  except FileNotFoundError:
    raise UserError(
      "there is no such file.",
      where=name,
      remedy=f"Check the path; the working directory is {os.getcwd()}.",
    ) from None
  except (OSError, ValueError) as error:
    raise _unreadable(name, error) from None
  for is_kind, what in _KINDS:
    if is_kind(status.st_mode):
      raise UserError(
        f"this is {what}, not a file.",
        where=name,
        remedy="Data is read more than once: write it to a file first.",
      )
  return status.st_size


class Unpacked:
  """Counts the bytes that a file unpacks to, and stops at too many.

  The limit is `FREE` bytes or, for larger files, a hundred times their size.
  """

  def __init__(self, name: str, size: int):
    self._name, self._most = name, max(FREE, _TIMES * size)
    self._bytes = 0

  def add(self, count: int, where: str) -> None:
    """Adds unpacked bytes.

    Args:
      count: number of bytes.
      where: place of their row, for errors.

    Raises:
      UserError: the bytes are too many for a file of that size.
    """
    self._bytes += count
    if self._bytes > self._most:
      raise UserError(
        f"the file unpacks to more than {self._most:,} bytes, over {_TIMES} "
        "times its size.",
        where=where,
        remedy="If it should, unpack it yourself and give the JSON lines.",
      )


def too_long(where: str) -> UserError:
  """The error for a row of more than `MAX_ROW` bytes."""
  return UserError(
    f"the row has more than {MAX_ROW:,} bytes.",
    where=where,
    remedy="A line is one row. Write each object of a JSON array on a line of "
    "its own.",
  )


def lines_of(name: str) -> Iterator[tuple[int, bytes]]:
  """Yields (number, line) of a text file, unpacked if its name ends in .gz.

  Numbers count from 1. Blank lines are counted and left out.

  Raises:
    UserError: the file can't be read, is not a whole gzip file, unpacks to far
      more than its size, or has a line of more than `MAX_ROW` bytes or more
      than a million blank lines on end.
  """
  size = file_size(name)
  packed = name.endswith(".gz")
  unpacked = Unpacked(name, size)
  try:
    with (gzip.open if packed else open)(name, "rb") as file:
      number = blank = 0
      while line := file.readline(MAX_ROW + 1):
        number += 1
        where = f"{name}:{number}"
        if len(line) > MAX_ROW:
          raise too_long(where)
        if packed:
          unpacked.add(len(line), where)
        if line.strip():
          blank = 0
          yield number, line
        elif (blank := blank + 1) > _BLANK:
          raise UserError(
            f"there are more than {_BLANK:,} blank lines here.",
            where=where,
            remedy="Leave them out.",
          )
  except (gzip.BadGzipFile, zlib.error, EOFError) as error:
    raise UserError(
      f"the file is not a whole gzip file ({error}).",
      where=name,
      remedy="Fetch it again, or take .gz off its name if it is plain text.",
    ) from None
  except OSError as error:
    raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> UserError:
  said = getattr(error, "strerror", None) or error
  return UserError(
    f"the file cannot be read ({said}).",
    where=name,
    remedy="Give a file that you may read.",
  )
