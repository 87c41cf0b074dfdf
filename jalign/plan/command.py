"""The whole of `jalign plan`: from a config to a table and a file."""

import fnmatch
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jalign.errors import UserError, nearest
from jalign.models import ModelConfig, param_specs
from jalign.models.spec import ParamSpec
from jalign.plan import advice, table
from jalign.plan.asked import asked
from jalign.plan.measured import Measured, as_json, measure
from jalign.plan.record import file_of, ready, write
from jalign.plan.run import programs_of
from jalign.plan.tries import compiled
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
  ready(out)
  settings, target, model, notes = asked(config, name)
  mesh = make_mesh(*settings.mesh.sizes, devices=target.devices)
  count = parameters(model)
  print(table.heading(target, mesh, count, notes), flush=True)
  facts: dict[str, Any] = {
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
    facts["programs"] = [as_json(m) for m in measured]
    if out is not None:  # at once, since the next one may take minutes
      write(out, target, facts)
  if not measured:
    raise UserError(
      f"no program of the config is called {', '.join(patterns)}.",
      where="--programs",
      remedy=nearest(patterns[0], names),
    )
  if not all(m.fits for m in measured):
    needs = {m.name: m.needs for m in measured}
    print(advice.heading(needs, target), flush=True)
    advised = advice.advise(settings, target, needs, compiled)
    print(advice.text(advised), flush=True)
    facts["advice"] = [a._asdict() for a in advised]
    if out is not None:
      write(out, target, facts)
  if out is not None:
    print(f"\nwritten to {file_of(out)}")
  return measured


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
