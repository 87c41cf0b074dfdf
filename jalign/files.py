"""Writing files that are whole or absent, and errors for failed writes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping

from jalign.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_UNFINISHED = re.compile(r"\.jalign-[0-9a-f]{8}-\w{8}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Unwritable(UserError):
  """A file or folder couldn't be written; its former content is kept."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes a file whole or not at all; an old file stays until the end.

  Args:
    path: path of the file; its folder is made.
    data: the file's content.

  Raises:
    OSError: the file can't be written; no partial file stays.
  """
  with appearing(path, alone=False) as partial:
    partial.write_bytes(data)


@contextlib.contextmanager
def appearing(
  path: str | os.PathLike[str], *, alone: bool = True
) -> Iterator[pathlib.Path]:
  """Yields a temporary path that is renamed to the target at the end.

  The temporary path is in a new folder beside the target. The folder has a
  random name and is locked while this process lives. Temporary folders that
  killed processes left for the same target are removed.

  Args:
    path: the target; its folder is made, and a link is followed. A file
      replaces a file; a folder can't replace one that has content.
    alone: whether to refuse when another process is writing the same target.

  Raises:
    OSError: the target can't be written, whatever error a library raised. The
      error names the target; its old content stays, and no partial file does.
    UserError: another process is writing the target.
  """
  target = pathlib.Path(os.path.realpath(path))
  made = [p for p in target.parents if not p.exists()]
  target.parent.mkdir(parents=True, exist_ok=True)
  prefix = _prefix(target)
  own, handle = _own_folder(target, prefix)
  try:
    with _of_target(target, own):
      others = [p for p in target.parent.iterdir() if p.name.startswith(prefix)]
      busy = [p for p in others if p != own and _is_busy(p)]
      if busy and alone:
        raise UserError(
          "another process is writing it.",
          where=str(path),
          remedy="Wait for it, or name another place.",
        )
      yield own / target.name
      for folder, _, files in os.walk(own):
        for name in files:
          _sync(pathlib.Path(folder, name))
      (own / target.name).replace(target)
  finally:
    shutil.rmtree(own, ignore_errors=True)
    os.close(handle)
    for above in made:
      with contextlib.suppress(OSError):  # the folder isn't empty
        above.rmdir()


def clear(path: str | os.PathLike[str]) -> None:
  """Removes the temporary folders that killed processes left for a target.

  Args:
    path: the target of `appearing`; the target itself stays.
  """
  target = pathlib.Path(os.path.realpath(path))
  for left in target.parent.glob(f"{_prefix(target)}*"):
    _is_busy(left)


def _prefix(target: pathlib.Path) -> str:
  digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
  return f".jalign-{digest}-"


def is_unfinished(name: str) -> bool:
  """Whether a name is of the form of `appearing`'s temporary folders."""
  return bool(_UNFINISHED.fullmatch(name))


def _own_folder(target: pathlib.Path, prefix: str) -> tuple[pathlib.Path, int]:
  """A new folder beside the target, and the handle that locks it."""
  while True:
    try:
      own = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as e:
      e.filename = str(target)
      raise
    with contextlib.suppress(FileNotFoundError):
      handle = os.open(own, _DIRECTORY)
      # Locking fails on a file system without locks, or where another process
      # takes the folder for a killed process's and is removing it.
      with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
      if own.exists():
        return own, handle
      os.close(handle)


def _is_busy(folder: pathlib.Path) -> bool:
  """Whether a living process holds a folder; if none does, it is removed."""
  try:
    handle = os.open(folder, _DIRECTORY)
  except OSError:
    return False  # the folder is gone already, or isn't a folder
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(folder, ignore_errors=True)
  except BlockingIOError:
    return True
  except OSError:  # a file system without locks: the folder stays
    pass
  finally:
    os.close(handle)
  return False


def _sync(path: pathlib.Path) -> None:
  """Writes a file to the disk, so that a power cut can't lose its data."""
  with path.open("rb") as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def _of_target(target: pathlib.Path, own: pathlib.Path) -> Iterator[None]:
  """Names the target, not the temporary path, in errors of writing it."""
  try:
    yield
  except UserError:
    raise
  except Exception as e:  # safetensors, for one, raises an error of its own
    number = _number(e)
    if isinstance(e, OSError) and isinstance(e.filename, str):
      if pathlib.Path(e.filename).is_relative_to(own):
        e.filename, e.filename2 = str(target), None
    elif number:
      raise OSError(number, os.strerror(number), str(target)) from e
    raise


def check_output(
  target: pathlib.Path,
  flag: str,
  inputs: Mapping[str, str | os.PathLike[str]],
  *,
  folder: bool = False,
) -> None:
  """Refuses an output path that can't be written, before any work is done.

  Args:
    target: path that will be written.
    flag: the flag that named the path, e.g. "--out".
    inputs: flag -> path that is read; a path that doesn't exist, such as a name
      on the hub, is left out.
    folder: whether the target will be a new folder, rather than a file.

  Raises:
    UserError: the target is an input, by whatever name, or lies in one; it
      exists and isn't a file, or is to be a folder; or its parent can't be
      written to.
  """
  where, real = f"{flag}={target}", pathlib.Path(os.path.realpath(target))
  for name, path in inputs.items():
    given = pathlib.Path(os.path.realpath(path))
    if not given.exists():
      continue
    same = real == given or (real.exists() and real.samefile(given))
    if same or (given.is_dir() and given in real.parents):
      raise UserError(
        f"{'is' if same else 'lies in'} {name}={path}, which is read.",
        where=where,
        remedy="Name another place.",
      )
  if folder and real.exists():
    raise UserError("already exists.", where=where, remedy="Name a new folder.")
  if real.exists() and not real.is_file():
    raise UserError("isn't a file.", where=where, remedy="Name a new file.")
  above = next(p for p in real.parents if p.exists())
  if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
    reason = errno.EACCES if above.is_dir() else errno.ENOTDIR
    error = OSError(reason, os.strerror(reason), str(above))
    raise unwritable(error, str(real), above, again="")


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Adds a file's name to an OSError without one, as a full disk raises."""
  try:
    yield
  except OSError as e:
    if e.filename is None and e.errno is not None:
      e.filename = str(path)
    raise


def unwritable(
  error: Exception,
  what: str,
  folder: pathlib.Path,
  again: str = "it goes on from there",
) -> Unwritable:
  """Makes the error that tells a user that a file couldn't be written.

  Args:
    error: the exception that was raised.
    what: a noun phrase for what couldn't be written, e.g. a path.
    folder: the folder in which it was to be written.
    again: what the same command does when it is run again; "" where it starts
      from the beginning.

  Returns:
    The error, with the reason, the free space where that may be the reason,
    and a remedy.
  """
  number = _number(error)
  reason = getattr(error, "strerror", None) or (
    os.strerror(number) if number else _first_line(error)
  )
  remedy = "Choose another place"
  if number in FULL:
    remedy = "Free some space"
  elif number in CLOSED:
    remedy = "Make the folder writable"
  then = f"then run the same command{f': {again}' if again else ' again'}"
  if number is None or number in (*FULL, *CLOSED):
    reason += f"; {_free(folder)}"
  return Unwritable(
    f"{what} can't be written ({reason}).",
    where=str(folder),
    remedy=f"{remedy}, {then}.",
  )


def is_about_writing(error: Exception) -> bool:
  """Whether an error says that a file can't be written."""
  return isinstance(error, OSError) or _number(error) is not None


def _number(error: Exception) -> int | None:
  """The errno of an error, or None.

  Libraries in C++ and Rust give only the system's text, which is looked up.
  """
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno
  said = str(error).lower()
  known = {os.strerror(code).lower(): code for code in (*FULL, *CLOSED)}
  return next((code for text, code in known.items() if text in said), None)


def _first_line(error: Exception) -> str:
  return str(error).strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def telling(
  folder: pathlib.Path,
  saved: Callable[[], str],
  again: str = "it goes on from there",
) -> Iterator[None]:
  """Turns an OSError of writing below a folder into Unwritable.

  An OSError that names a file elsewhere isn't about the folder: where the disk
  is full or read-only, the error names that file's folder; otherwise the
  OSError passes unchanged.

  Args:
    folder: the folder that is written to.
    saved: gives a sentence about what has been saved, which is added.
    again: as for `unwritable`.

  Raises:
    Unwritable: instead of the OSError.
  """
  try:
    yield
  except OSError as e:
    name = e.filename if isinstance(e.filename, str) else ""
    inside = bool(name) and _below(pathlib.Path(name), folder)
    if not inside and _number(e) not in (*FULL, errno.EROFS):
      raise
    place = folder if inside or not name else pathlib.Path(name).parent
    told = unwritable(e, name or "a file", place, again)
    raise _with(told, saved()) from e
  except Unwritable as e:
    raise _with(e, saved()) from e


def _with(told: Unwritable, saved: str) -> Unwritable:
  problem = f"{told.problem} {saved}"
  return Unwritable(problem, where=told.where, remedy=told.remedy)


def _below(path: pathlib.Path, folder: pathlib.Path) -> bool:
  real = pathlib.Path(os.path.realpath(path))
  return real.is_relative_to(os.path.realpath(folder)) or (
    path.absolute().is_relative_to(folder.absolute())
  )


def _free(folder: pathlib.Path) -> str:
  for place in (folder, *folder.absolute().parents):
    with contextlib.suppress(OSError):
      return f"{shutil.disk_usage(place).free / 2**20:,.1f} MiB are free"
  return "free space unknown"
