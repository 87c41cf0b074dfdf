"""The manifest of a checkpoint: the size and SHA-256 of each of its files.

Orbax doesn't check what it reads: training would go on from an array with a
flipped bit. The manifest is written into the checkpoint's temporary folder,
before the rename that makes it a checkpoint, so that every checkpoint has one.
"""

import concurrent.futures
import hashlib
import json
import pathlib
from collections.abc import Iterable

from jalign.files import write_whole
from jalign.hosts import own_part

NAME = "manifest.json"
# Files that the rename writes, after the manifest; nothing reads them.
_UNLISTED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")


def write(folder: pathlib.Path) -> None:
  """Writes a manifest of all files below a folder."""
  names = sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob("*")
    if path.is_file()
  )
  names = [name for name in names if name not in _UNLISTED]
  facts = _map(lambda name: _facts(folder / name), names)
  files = {
    name: {"bytes": size, "sha256": digest}
    for name, (size, digest) in zip(names, facts)
  }
  text = json.dumps({"files": files}, indent=1) + "\n"
  write_whole(folder / NAME, text.encode())


def damage(folder: pathlib.Path, items: Iterable[str] = ()) -> str | None:
  """What is wrong with a checkpoint, in words; None if its files are unchanged.

  Each process of a run looks at its part of the files.

  Args:
    folder: the checkpoint's folder, with its manifest.
    items: its subfolders to look at; () for all files.
  """
  try:
    files = json.loads((folder / NAME).read_bytes())["files"]
    listed = {
      str(name): (int(fact["bytes"]), str(fact["sha256"]))
      for name, fact in files.items()
    }
  except OSError as e:
    return f"{NAME} can't be read: {e.strerror}"
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return f"{NAME} is damaged"
  wanted = tuple(f"{item}/" for item in items) or ("",)
  names = [name for name in listed if name.startswith(wanted)]
  for prefix in wanted:
    if not any(name.startswith(prefix) for name in names):
      return f"{NAME} doesn't list {prefix or 'any file'}"

  def look(name: str) -> str | None:
    size, digest = listed[name]
    try:
      there = (folder / name).stat().st_size
      if there != size:
        return f"{name} has {there} bytes instead of {size}"
      if _facts(folder / name)[1] != digest:
        return f"{name} has another SHA-256 than when it was written"
    except FileNotFoundError:
      return f"{name} is missing"
    except (OSError, ValueError) as e:  # ValueError: an impossible file name
      return f"{name} can't be read: {e}"
    return None

  return next(filter(None, _map(look, names[own_part(names)])), None)


def _facts(path: pathlib.Path) -> tuple[int, str]:
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return file.tell(), digest


def _map(function, values):
  """Maps in threads, since hashing releases the interpreter's lock."""
  with concurrent.futures.ThreadPoolExecutor() as pool:
    return list(pool.map(function, values))
