"""Files that are whole or not there, and what to say when they can't be."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from jalign.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class Unwritable(UserError):
  """Something couldn't be written; what was there before is kept."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes a file whole or not at all; what was there stays until the end.

  Args:
    path: of the file; its folder is made.
    data: what it will hold.

  Raises:
    OSError: it can't be written; no partial file stays.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  try:
    with naming(path), partial.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())  # or a power cut leaves the name without the data
    partial.replace(path)
  except OSError:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Gives an OSError the name of a file: those of a full disk have none."""
  try:
    yield
  except OSError as e:
    if e.filename is None and e.errno is not None:
      e.filename = str(path)
    raise


def unwritable(error: Exception, what: str, folder: pathlib.Path) -> Unwritable:
  """The error of something that couldn't be written.

  Args:
    error: what was raised.
    what: that couldn't be written.
    folder: that it belongs in.
  """
  reason = getattr(error, "strerror", None) or _reason(str(error))
  remedy = "Make the folder writable"
  if is_full(error):
    remedy = "Free some space"
  return Unwritable(
    f"{what} can't be written ({reason}; {_free(folder)}).",
    where=str(folder),
    remedy=f"{remedy}, then run the same command: it goes on from there.",
  )


def is_full(error: Exception) -> bool:
  """Whether an error says that there is no space left."""
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno in FULL
  said = str(error).lower()  # libraries in C++ give the text alone
  return any(os.strerror(code).lower() in said for code in FULL)


@contextlib.contextmanager
def telling(folder: pathlib.Path, saved: Callable[[], str]) -> Iterator[None]:
  """Turns an OSError of writing below a folder into Unwritable, and adds what
  is kept.

  Other OSErrors, of an annotator that talks to a server say, pass.

  Args:
    folder: that is written to.
    saved: gives a sentence on what is kept.
  """
  try:
    yield
  except OSError as e:
    name = e.filename if isinstance(e.filename, str) else ""
    inside = bool(name) and _below(pathlib.Path(name), folder)
    if not inside and e.errno not in (*FULL, errno.EROFS):
      raise
    raise _with(unwritable(e, name or "a file", folder), saved()) from e
  except Unwritable as told:
    raise _with(told, saved()) from told


def _with(told: Unwritable, saved: str) -> Unwritable:
  problem = f"{told.problem} {saved}"
  return Unwritable(problem, where=told.where, remedy=told.remedy)


def _below(path: pathlib.Path, folder: pathlib.Path) -> bool:
  return path.absolute().is_relative_to(folder.absolute())


def _free(folder: pathlib.Path) -> str:
  for place in (folder, *folder.absolute().parents):
    with contextlib.suppress(OSError):
      return f"{shutil.disk_usage(place).free / 2**20:,.1f} MiB are free"
  return "free space unknown"


def _reason(said: str) -> str:
  """What the system said, out of what a library made of it."""
  for text in map(os.strerror, (*FULL, *CLOSED)):
    if text in said:
      return text
  return said.strip().partition("\n")[0]
