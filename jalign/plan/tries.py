"""A run's programs under settings that are tried."""

import dataclasses
from collections.abc import Collection, Iterator

from jalign.experiment.config.sections import MeshSettings
from jalign.experiment.config.settings import Settings
from jalign.models import ModelConfig
from jalign.plan.asked import model_for
from jalign.plan.measured import Measured, measure
from jalign.plan.programs import Program
from jalign.plan.run import programs_of
from jalign.plan.topology import Topology
from jalign.sharding import make_mesh


def alone(
  settings: Settings, model: ModelConfig, target: Topology
) -> Iterator[Program]:
  """The run's programs on a single device, for their work.

  Args:
    settings: the run's settings.
    model: the run's model.
    target: the devices.
  """
  single = dataclasses.replace(settings, mesh=MeshSettings(1, 1, 1))
  mesh = make_mesh(1, 1, 1, devices=target.devices[:1])
  return programs_of(single, model, mesh)


def compiled(
  settings: Settings, target: Topology, names: Collection[str] = ()
) -> Iterator[Measured]:
  """Yields what programs of the run need, by compiling.

  Args:
    settings: the run's settings.
    target: the devices.
    names: the programs; () for those of the run's steps.

  Raises:
    UserError: the settings make no sense.
  """
  model, _ = model_for(settings, target)
  mesh = make_mesh(*settings.mesh.sizes, devices=target.devices)
  for program in programs_of(settings, model, mesh):
    if program.name in names or (not names and program.runs):
      yield measure(program, model, mesh, target.chip)
