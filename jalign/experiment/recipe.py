"""Says how stages were trained, in tables that reports show."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jalign.errors import UserError
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.loss import bind
from jalign.experiment.params import trainable_of
from jalign.experiment.tables import trained_by
from jalign.models import ModelConfig, param_specs
from jalign.models.spec import ParamSpec
from jalign.pages.report import Table
from jalign.training.critic import CRITIC, has_critic
from jalign.training.trainable import HEAD, MODEL, has_head
from jalign.types import Params


def recipe(
  settings: Settings,
  stage: StageSettings,
  model: ModelConfig,
  rows: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
  """Says how a stage was trained: name of a quantity -> its value.

  Args:
    settings: the run's settings.
    stage: settings of the stage.
    model: config of the model.
    rows: the stage's metrics.
  """
  start, optimizer = settings.starts[stage.name], stage.optimizer
  rate = f"{optimizer.learning_rate:g}, {optimizer.schedule}"
  if optimizer.warmup_steps:
    rate += f" after {optimizer.warmup_steps} updates of warm-up"
  size = str(stage.batch_size)
  if stage.microbatches > 1:
    size += f" in {stage.microbatches} parts"
  if start == "start":
    start = settings.init_from or "fresh parameters"
  part = trainable_of(model, stage)
  head = parameters(part.specs[HEAD]) if has_head(part.specs) else 0
  total = parameters(param_specs(model)) + head
  trained = f"{parameters(part.specs):,} beside {total:,} that stay"
  if not stage.lora.rank:
    trained = f"{parameters(part.specs):,} of {total:,}"
  if has_critic(part.specs):
    own, critic = (parameters(part.specs[name]) for name in (MODEL, CRITIC))
    trained = f"the policy's {own:,}, and {critic:,} of the critic"
  return {
    "starts from": start,
    "loss": trained_by(_loss(stage), stage.algorithm),
    "steps": str(max((row["step"] for row in rows), default=0)),
    "batch size": size,
    "learning rate": rate,
    "settings of the algorithm": _settings(stage.algorithm_settings),
    "LoRA": _lora(stage),
    "parameters that are trained": trained,
  }


def recipes(of: Mapping[str, Mapping[str, str]]) -> Table:
  """A table of recipes; a quantity that none of them has is left out.

  The recipes make the columns, or the rows if they are many.

  Args:
    of: name of a run or of a stage -> its recipe.
  """
  names = dict.fromkeys(name for values in of.values() for name in values)
  lines = [n for n in names if any(v.get(n) for v in of.values())]
  if len(of) > len(lines):
    cells = [(name, *(v.get(n, "") for n in lines)) for name, v in of.items()]
    return Table(("", *lines), cells)
  cells = [(line, *(v.get(line, "") for v in of.values())) for line in lines]
  return Table(("", *of), cells)


def parameters(specs: Params) -> int:
  """The number of parameters that a tree of specs describes."""
  leaves = jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, ParamSpec))
  return sum(math.prod(spec.shape) for spec in leaves)


def _settings(settings: Mapping[str, Any]) -> str:
  """Hyperparameters as a config gives them, without the defaults."""
  return ", ".join(f"{name}={settings[name]!r}" for name in sorted(settings))


def _lora(stage: StageSettings) -> str:
  lora = stage.lora
  if not lora.rank:
    return ""
  kinds = (("DoRA", lora.use_dora), ("rsLoRA", lora.use_rslora))
  more = "".join(f", {name}" for name, used in kinds if used)
  return f"rank {lora.rank}, alpha {lora.alpha:g}{more}"


def _loss(stage: StageSettings) -> str:
  """The loss with its hyperparameters; its name if its code is gone."""
  try:
    return bind(stage).title
  except UserError:
    return str(stage.loss.get("name", "a sum of losses"))
