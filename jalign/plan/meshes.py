"""`jalign plan --shardings` and `jalign plan --search`."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.experiment.params import trainable_of
from jalign.models import param_specs
from jalign.plan import proposals, rules
from jalign.plan.asked import asked
from jalign.plan.record import file_of, ready, write
from jalign.plan.tries import alone, compiled
from jalign.sharding import make_mesh


def show_shardings(config: Mapping[str, Any], name: str) -> None:
  """Prints the sharding rules, and what each parameter becomes.

  Args:
    config: the config, as plain dictionaries.
    name: name of the topology.

  Raises:
    UserError: bad input. A parameter that the mesh can't hold is no error: the
      table names all such parameters.
  """
  settings, target, model, _ = asked(config, name)
  mesh = make_mesh(*settings.mesh.sizes, devices=target.devices)
  sizes = " x ".join(f"{k} {n}" for k, n in mesh.shape.items())
  rows = rules.shards(param_specs(model), mesh, model.rules, model.param_dtype)
  title = f"parameters in {model.param_dtype} on {target.name}, {sizes}"
  print(rules.text(rows, mesh, model.rules, title))
  for stage in settings.stages:
    if not stage.lora.rank:
      continue
    changed = trainable_of(model, stage)
    rows = rules.shards(changed.specs, mesh, model.rules)
    title = f"{stage.name}: {changed.title}, in float32"
    print("\n" + rules.text(rows, mesh, (), title))


def find_mesh(
  config: Mapping[str, Any],
  name: str,
  count: int,
  out: pathlib.Path | None = None,
) -> None:
  """Searches for the best mesh, and prints it with its reasons.

  Args:
    config: the config, as plain dictionaries.
    name: name of the topology.
    count: number of meshes to compile.
    out: file or folder for the JSON; None writes nothing.

  Raises:
    UserError: bad input.
  """
  ready(out)
  settings, target, model, notes = asked(config, name)
  for note in notes:
    print(note)
  phases = proposals.phases_of(alone(settings, model, target), settings)
  found, proposed = proposals.propose(
    settings,
    model,
    target,
    phases,
    lambda settings: list(compiled(settings, target)),
    count,
  )
  print(proposals.text(found, proposed, target))
  if out is not None:
    write(out, target, proposals.as_json(found, proposed))
    print(f"\nwritten to {file_of(out)}")
