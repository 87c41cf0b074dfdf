"""What a plan is asked for: a run's settings, its model and the devices."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from jalign.experiment.commands.sweep import runs as runs_of
from jalign.experiment.config.settings import Settings
from jalign.models import ModelConfig
from jalign.plan.stand_in import model_of
from jalign.plan.topology import LOCAL, Topology, topology


class Asked(NamedTuple):
  """What is planned.

  Attributes:
    settings: the settings of a config's first run.
    target: the devices.
    model: the model, as it can be compiled for them.
    notes: remarks on what differs from a run.
  """

  settings: Settings
  target: Topology
  model: ModelConfig
  notes: list[str]


def asked(config: Mapping[str, Any], name: str) -> Asked:
  """Reads a config for a topology of that name.

  Raises:
    UserError: bad input.
  """
  runs = runs_of(_without_data(config))
  settings, target = runs[0].settings, topology(name)
  model, notes = model_for(settings, target)
  if len(runs) > 1:
    notes.append(f"the first of {len(runs)} runs is planned: {runs[0].name}")
  if settings.annotator.kind == "judge":
    notes.append(
      "programs of the judge aren't planned: it has parameters of its own"
    )
  return Asked(settings, target, model, notes)


def _without_data(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config with a path of data, which is never read, if it has none."""
  data = dict(config.get("data", {}))
  data["path"] = data.get("path") or "none"
  return {**config, "data": data}


def model_for(
  settings: Settings, target: Topology
) -> tuple[ModelConfig, list[str]]:
  """A run's model as it can be compiled without the target's devices; remarks.

  Raises:
    UserError: see `stand_in.model_of`.
  """
  model = model_of(settings)
  far = target.chip.platform == "gpu" and target.name != LOCAL
  if not far or model.attention not in ("auto", "cudnn"):
    return model, []
  # cuDNN chooses its kernels on the device.
  return dataclasses.replace(model, attention="xla"), [
    f"attention: xla instead of {model.attention}: cuDNN can't be compiled for"
    " without the GPU; a run needs less memory and time"
  ]
