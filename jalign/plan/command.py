"""The whole of `jalign plan`: from a config to a table and a file."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.experiment.commands.sweep import runs as runs_of
from jalign.plan.compiled import compile_program
from jalign.plan.programs import programs_of
from jalign.plan.stand_in import model_of
from jalign.plan.topology import topology
from jalign.sharding import make_mesh


def make_plan(config: Mapping[str, Any], name: str, out: pathlib.Path) -> None:
  """Compiles the programs of a config's first run, and prints a table.

  Args:
    config: the config, as plain dictionaries.
    name: name of the topology.
    out: file or folder for the JSON; nothing is written for an empty path.

  Raises:
    UserError: bad input.
  """
  config = dict(config)
  config["data"] = {"path": "none"} | {
    k: v for k, v in config.get("data", {}).items() if v or k != "path"
  }
  settings = runs_of(config)[0].settings
  target = topology(name)
  mesh = make_mesh(**settings.mesh.sizes, devices=target.devices)
  model = model_of(settings)
  for program in programs_of(settings, model, mesh):
    compiled = compile_program(program, mesh)
    print(program.name, compiled.seconds, compiled.memory, compiled.needs)
