"""All programs of a run."""

from collections.abc import Iterator

import jax

from jalign.experiment.config.settings import Settings
from jalign.models import ModelConfig
from jalign.plan import rollouts
from jalign.plan.programs import Program, kept, offline, plan_stage


def programs_of(
  settings: Settings, model: ModelConfig, mesh: jax.sharding.Mesh
) -> Iterator[Program]:
  """Yields the programs of a run's stages, in their order.

  Args:
    settings: the run's settings.
    model: its model.
    mesh: a mesh of the devices that are planned for.

  Raises:
    UserError: a setting makes no sense; the error names the key.
  """
  tensor = settings.mesh.decode_tensor
  for stage, count in zip(settings.stages, kept(settings)):
    planned = plan_stage(stage, model, mesh, count, tensor)
    if stage.samples:
      yield from rollouts.online(planned, settings.sample)
    else:
      yield from offline(planned)
