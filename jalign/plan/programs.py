"""The programs of a run's stages, lowered from shapes alone."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.errors import UserError
from jalign.experiment.assemble import Assembly, assemble
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.context import Materials
from jalign.experiment.loss import bind
from jalign.experiment.stage_check import check_offload
from jalign.models import ModelConfig
from jalign.plan import stand_in
from jalign.sharding import (
  BATCH_AXES,
  axis_size,
  by_path,
  laid,
  rows_at,
)
from jalign.training import offload, reference
from jalign.types import Params

_STEPS = 1000  # of a stage whose data would say how many it has


class Program(NamedTuple):
  """A program of a run.

  Attributes:
    name: "STAGE: what it does".
    lower: lowers it, under the mesh.
    arguments: category of memory, such as "parameters" -> the arguments' shapes
      and shardings.
    beside: the same for what lies in the devices' memory while the program
      runs, and isn't an argument of it.
    facts: what formulas need: "kind" of the program, and the fields of its work
      (see `workload.of_facts`).
  """

  name: str
  lower: Callable[[], jax.stages.Lowered]
  arguments: Mapping[str, Any]
  beside: Mapping[str, Any]
  facts: Mapping[str, Any]


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
  params = stand_in.parameters_of(model, mesh)
  for stage in settings.stages:
    yield from _of_stage(stage, model, mesh, params)


def _of_stage(
  stage: StageSettings,
  model: ModelConfig,
  mesh: jax.sharding.Mesh,
  params: Params,
) -> Iterator[Program]:
  check_divisible(stage, mesh)
  check_offload(stage, mesh)
  if offload.START in stage.offload:
    params = offload.parked(params)
  loss = bind(stage)
  updates = stage.optimizer.warmup_steps + _STEPS
  planned = dataclasses.replace(stage, steps=stage.steps or updates)
  given = Materials(
    model,
    mesh,
    stand_in.dataset_of(stage, loss, stage.batch_size),
    stand_in.Words(model.vocab_size),
    None,
    lambda purpose: 0,
  )
  assembly = assemble(given, planned, params)
  if not stage.samples:
    yield _update(stage, assembly, mesh, params, _batch(stage, assembly, mesh))


def _batch(stage: StageSettings, assembly: Assembly, mesh) -> Any:
  """Shapes and shardings of a stage's first batch."""
  batches = assembly.batches()
  batch = next(batches)
  batches.close()
  record = batch.data
  if stage.reference == "precompute" and assembly.objective.needs_reference:
    rows = len(record.sequences.tokens) // len(record.weights)
    table = dict.fromkeys(batch.sources, np.zeros(rows, np.float32))
    record = reference.attach(record, batch.sources, table)
  return laid(record, jax.tree.map(lambda x: rows_at(x, mesh), record))


def _update(
  stage: StageSettings, assembly: Assembly, mesh, params: Params, batch: Any
) -> Program:
  state = assembly.shapes()
  scored = stage.reference == "precompute"
  compared = assembly.objective.needs_reference and not scored
  ref_params = params if compared else None
  arguments = {
    "parameters": (state.params, assembly.frozen),
    "optimiser": state.opt_state,
    "reference": _apart(ref_params, assembly.frozen),
    "batch": batch,
  }
  # A run keeps what the stage started from, which an update may not read.
  beside = {"carry": state.carry}
  if not compared and not jax.tree.leaves(assembly.frozen):
    beside["start"] = params
  return Program(
    f"{stage.name}: update",
    functools.partial(assembly.lower, state, batch, ref_params),
    arguments,
    beside,
    {
      "kind": "update",
      "rows": len(batch.sequences.tokens),
      "tokens": batch.sequences.tokens.shape[1],
      "reference": compared,
      "microbatches": stage.microbatches,
      **_trained(stage, assembly),
      "kept": "start" in beside,
    },
  )


def _trained(stage: StageSettings, assembly: Assembly) -> dict[str, Any]:
  """What is trained, how it is kept, and which tokens count."""
  prompt, response = stand_in.widths(stage.data)
  rank, specs = stage.lora.rank, assembly.part.specs
  return {
    "counted": response / (prompt + response),
    "moments": stage.optimizer.moments,
    "rank": rank,
    "changed": tuple(specs["blocks"]) if rank else (),
    "trained": frozenset(by_path(specs)) if stage.trainable else None,
  }


def _apart(ref_params: Params, frozen: Params) -> Params:
  """The reference, unless it is the frozen part, the same arrays."""
  return () if ref_params is frozen else ref_params


def check_divisible(stage: StageSettings, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError for a batch that the mesh's batch axes don't divide."""
  ways = axis_size(mesh, BATCH_AXES) * stage.microbatches
  if stage.batch_size % ways:
    raise UserError(
      f"{stage.batch_size} examples in {stage.microbatches} microbatches don't"
      f" divide over the {axis_size(mesh, BATCH_AXES)} devices of the mesh's"
      " data and fsdp axes.",
      where=f"config.{stage.name}.batch_size",
      remedy=f"Choose a multiple of {ways}, or a mesh with fewer devices along"
      " data and fsdp.",
    )
