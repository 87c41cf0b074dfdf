"""Plans as files of JSON."""

import importlib.metadata
import json
import pathlib
import sys
from typing import Any

import jalign
from jalign.files import write_whole
from jalign.plan.topology import Topology


def write(out: pathlib.Path, target: Topology, facts: dict[str, Any]) -> None:
  """Writes a plan as JSON.

  Args:
    out: the file, or a folder for plan.json.
    target: what is planned for.
    facts: what was planned.
  """
  path = file_of(out)
  path.parent.mkdir(parents=True, exist_ok=True)
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
