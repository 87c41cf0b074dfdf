"""The whole of `jalign plan`: from a config to a table and a file."""

import fnmatch
import importlib.metadata
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import jalign
from jalign.errors import UserError, nearest
from jalign.files import write_whole
from jalign.models import ModelConfig, param_specs
from jalign.models.spec import ParamSpec
from jalign.plan import table
from jalign.plan.asked import asked
from jalign.plan.measured import Measured, as_json, measure
from jalign.plan.run import programs_of
from jalign.plan.topology import Topology
from jalign.sharding import make_mesh


def make_plan(
  config: Mapping[str, Any],
  name: str,
  *,
  out: pathlib.Path | None = None,
  patterns: Sequence[str] = (),
) -> list[Measured]:
  """Compiles the programs of a config, and prints what they need.

  Of a config that makes several runs, the first is planned.

  Args:
    config: the config, as plain dictionaries.
    name: name of the topology.
    out: file or folder for the JSON; None writes nothing.
    patterns: programs to compile, by shell patterns of their names; () for all.

  Returns:
    What each program needs.

  Raises:
    UserError: bad input.
  """
  settings, target, model, notes = asked(config, name)
  mesh = make_mesh(**settings.mesh.sizes, devices=target.devices)
  count = parameters(model)
  print(table.heading(target, mesh, count, notes), flush=True)
  facts = {
    "mesh": dict(mesh.shape),
    "decode_tensor": settings.mesh.decode_tensor,
    "parameters": count,
    "notes": notes,
  }
  measured, names = [], []
  for program in programs_of(settings, model, mesh):
    names.append(program.name)
    if patterns and not any(_matches(program.name, p) for p in patterns):
      continue
    measured.append(measure(program, model, mesh, target.chip))
    print(table.block(measured[-1]), flush=True)
    if out is not None:  # at once, since the next one may take minutes
      write(out, target, facts | {"programs": list(map(as_json, measured))})
  if not measured:
    raise UserError(
      f"no program of the config is called {', '.join(patterns)}.",
      where="--programs",
      remedy=nearest(patterns[0], names),
    )
  if out is not None:
    print(f"\nwritten to {file_of(out)}")
  return measured


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


def _matches(name: str, pattern: str) -> bool:
  """Whether a pattern is of a program's name, or of what it does."""
  does = name.partition(": ")[2]
  return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(does, pattern)


def parameters(model: ModelConfig) -> int:
  """The number of a model's parameters."""
  leaves = jax.tree.leaves(
    param_specs(model), is_leaf=lambda x: isinstance(x, ParamSpec)
  )
  return sum(math.prod(spec.shape) for spec in leaves)


def versions() -> dict[str, str]:
  """Versions of jalign, jax and the compilers that are installed."""
  found = {"jalign": jalign.__version__}
  for name in ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin"):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
