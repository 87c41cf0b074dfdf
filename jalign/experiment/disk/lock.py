"""Lets one process at a time write to a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from jalign.errors import UserError
from jalign.files import telling
from jalign.hosts import exchange, host0, say

NAME = "lock"
_SEEN_SECONDS = 20


@contextlib.contextmanager
def hold(folder: pathlib.Path, flag: str = "--workdir") -> Iterator[None]:
  """Holds a folder while the context lasts; makes it if it's missing.

  The lock is the kernel's, on an open file. It ends with the process, however
  that ends, so that a file left by a killed process locks nothing. The file's
  text only says which process holds the lock. At the end the file is removed,
  and so are folders that were made here, if they are still empty.

  Args:
    folder: folder of a run, a sweep or a page.
    flag: the flag that named the folder, for errors.

  Raises:
    UserError: another process holds the folder, the folder can't be made, or
      it is a file.
  """
  if not host0():  # the first process holds the lock for all
    _see(folder / NAME, exchange("")[0], flag)
    yield
    return
  made = [p for p in (folder, *folder.absolute().parents) if not p.exists()]
  with telling(folder, lambda: "Nothing was changed."):
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as e:
      raise UserError(
        "this is a file, or lies below one.",
        where=str(folder),
        remedy=f"Choose another {flag}.",
      ) from e
    file, text = _take(folder / NAME, flag)
  try:
    exchange(text)
    yield
  finally:
    # Removed while it is held: a process that waits sees that its file is gone.
    with contextlib.suppress(OSError):
      (folder / NAME).unlink()
    file.close()
    for path in made:
      with contextlib.suppress(OSError):
        path.rmdir()


def _take(path: pathlib.Path, flag: str) -> tuple[IO[bytes], str]:
  """The locked file, and what is written into it."""
  while True:
    file = path.open("a+b")
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      with file:
        raise _held(path, file, flag) from None
    except OSError as e:  # a file system without locks
      say(f"{path}: can't be locked ({e.strerror}): start no second process")
    try:
      same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
      same = False
    if same:
      break
    file.close()  # the process that held the file has removed it
  owner = {
    "pid": os.getpid(),
    "host": socket.gethostname(),
    "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
  }
  text = json.dumps(owner)
  file.truncate(0)
  file.write(text.encode())
  file.flush()
  return file, text


def _see(path: pathlib.Path, text: str, flag: str) -> None:
  """Waits until a process sees the lock of the first; one folder serves all.

  A network file system may show a new file with some delay.
  """
  end = time.monotonic() + _SEEN_SECONDS
  while True:
    with contextlib.suppress(OSError):
      if path.read_text() == text:
        return
    if time.monotonic() > end:
      raise UserError(
        f"process 0 has locked its folder of this name, and after"
        f" {_SEEN_SECONDS} s that lock isn't to be seen here, on host"
        f" {socket.gethostname()}: the folder isn't shared.",
        where=f"{flag}={path.parent}",
        remedy="Name a folder of a file system that all hosts share, by a path"
        " that is the same on all of them.",
      )
    time.sleep(0.2)


def _held(path: pathlib.Path, file: IO[bytes], flag: str) -> UserError:
  file.seek(0)
  who = "another process"
  with contextlib.suppress(ValueError, KeyError, TypeError):  # half written
    owner = json.loads(file.read())
    who = (
      f"process {owner['pid']} on {owner['host']}, started {owner['started']},"
    )
  return UserError(
    f"{who} is writing to this folder.",
    where=str(path.parent),
    remedy=f"Wait for that process or stop it, or choose another {flag}.",
  )
