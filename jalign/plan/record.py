"""Plans as files of JSON."""

import importlib.metadata
import json
import os
import pathlib
import sys
from typing import Any

import jalign
from jalign.errors import UserError
from jalign.files import write_whole
from jalign.plan.topology import Topology


def ready(out: pathlib.Path | None) -> None:
  """Makes the folder of a plan's file, before minutes of compiling.

  Args:
    out: the file, or a folder for plan.json; None if nothing is written.

  Raises:
    UserError: the folder can't be made or written to.
  """
  if out is None:
    return
  path, problem = file_of(out), ""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError):
    problem = "its folder is a file"
  except OSError as e:
    problem = e.strerror or str(e)
  if problem or path.is_dir() or not os.access(path.parent, os.W_OK):
    raise UserError(
      f"can't be written ({problem or 'no file can be made there'}).",
      where=f"--out={out}",
      remedy="Name a FILE.json or a folder that you may write to.",
    )


def write(out: pathlib.Path, target: Topology, facts: dict[str, Any]) -> None:
  """Writes a plan as JSON.

  Args:
    out: the file, or a folder for plan.json.
    target: what is planned for.
    facts: what was planned.
  """
  path = file_of(out)
  whole = {
    "command": " ".join(["jalign", *sys.argv[1:]]),
    "versions": versions(),
    "topology": target.name,
    "chip": target.chip._asdict(),
    "usable_bytes": target.chip.usable,
    "chips": len(target.devices),
    "hosts": target.hosts,
    **facts,
  }
  write_whole(path, (json.dumps(whole, indent=2) + "\n").encode())


def file_of(out: pathlib.Path) -> pathlib.Path:
  """The file that a plan is written to: FILE.json, or FOLDER/plan.json."""
  return out if out.suffix == ".json" else out / "plan.json"


def versions() -> dict[str, str]:
  """Versions of jalign, jax and the compilers that are installed."""
  found = {"jalign": jalign.__version__}
  for name in ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin"):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
