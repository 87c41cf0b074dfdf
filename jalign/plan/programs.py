"""The programs of a run's stages, lowered from shapes alone."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.experiment.assemble import Assembly, assemble
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.context import Materials
from jalign.experiment.loss import bind
from jalign.experiment.stage_check import check_offload
from jalign.models import ModelConfig
from jalign.plan import stand_in
from jalign.plan.workload import Score, Step, Update, Work
from jalign.sharding import (
  BATCH_AXES,
  axis_size,
  by_path,
  laid,
  rows_at,
)
from jalign.training import offload, reference
from jalign.training.objective import make_evaluation
from jalign.training.state import TrainState
from jalign.types import Params

_STEPS = 1000  # of a stage whose data would say how many it has


class Program(NamedTuple):
  """A program of a run.

  Attributes:
    name: "STAGE: what it does".
    lower: `(platforms=None) -> the program, lowered`; called under the mesh.
      The platforms are by default that of the mesh's devices.
    arguments: gives category of memory, such as "parameters" -> the arguments'
      shapes and shardings; called under the mesh.
    beside: the same for what lies in the devices' memory while the program
      runs, and isn't an argument of it.
    work: what it computes, for formulas; None if it only moves numbers.
    trips: how often a loop runs whose end depends on data, at most.
    runs: how often a step of the stage runs the program; 0 for a program that
      is no part of a step.
    mesh: the mesh that the work is laid over; None for the planned one.
  """

  name: str
  lower: Callable[..., jax.stages.Lowered]
  arguments: Callable[[], Mapping[str, Any]]
  beside: Mapping[str, Any] = {}
  work: Work | Step | None = None
  trips: int = 1
  runs: int = 1
  mesh: jax.sharding.Mesh | None = None


class StagePlan(NamedTuple):
  """A stage whose programs are planned.

  Attributes:
    stage: the stage's settings.
    model: the model's config.
    mesh: the mesh that is planned for.
    given: what the stage is assembled from: made-up data.
    assembly: the assembled stage.
    state: shapes and shardings of its state.
    start: those of the parameters that the stage starts from.
    kept: those of policies that the run keeps for later.
  """

  stage: StageSettings
  model: ModelConfig
  mesh: jax.sharding.Mesh
  given: Materials
  assembly: Assembly
  state: TrainState
  start: Params
  kept: Any

  @property
  def resident(self) -> dict[str, Any]:
    """Category -> what lies on the devices during all of the stage."""
    return {
      "parameters": self.state.params,
      "optimiser": self.state.opt_state,
      "carry": self.state.carry,
      "start": self.start,
      "kept": self.kept,
    }


def kept(settings: Settings) -> list[int]:
  """For each stage, the number of policies kept beside the one it starts from.

  A run keeps the start of each later stage, and that of the last one.
  """
  starts, stages = settings.starts, settings.stages
  policies, counts = {"start"}, []
  for i, stage in enumerate(stages):
    counts.append(len(policies - {starts[stage.name]}))
    later = {starts[s.name] for s in stages[i + 1 :]}
    later.add(starts[stages[-1].name])
    policies = (policies | {stage.name}) & later
  return counts


def plan_stage(
  stage: StageSettings,
  model: ModelConfig,
  mesh: jax.sharding.Mesh,
  kept: int = 0,
  decode_tensor: int = 0,
) -> StagePlan:
  """Assembles a stage of shapes.

  Args:
    stage: the stage's settings.
    model: the model's config.
    mesh: the mesh.
    kept: number of policies that the run keeps beside the stage's start.
    decode_tensor: see `MeshSettings`.

  Raises:
    UserError: a setting makes no sense; the error names the key.
  """
  check_divisible(stage, mesh)
  check_offload(stage, mesh)
  loss, params = bind(stage), stand_in.parameters_of(model, mesh)
  if offload.START in stage.offload:
    params = offload.parked(params)
  others = [stand_in.parameters_of(model, mesh) for _ in range(kept)]
  steps = stage.steps or stage.optimizer.warmup_steps + _STEPS
  given = Materials(
    model,
    mesh,
    stand_in.dataset_of(stage, loss, stage.batch_size),
    stand_in.tokenizer(model.vocab_size),
    None,
    lambda purpose: 0,
    decode_tensor,
  )
  assembly = assemble(given, dataclasses.replace(stage, steps=steps), params)
  state = assembly.shapes()
  return StagePlan(stage, model, mesh, given, assembly, state, params, others)


def offline(p: StagePlan) -> Iterator[Program]:
  """Yields the programs of a stage on given data."""
  stage, assembly = p.stage, p.assembly
  batch = _batch(p, assembly.batches())
  yield update(p, batch, _counted(stage))
  compared = assembly.objective.needs_reference
  if stage.reference == "precompute" and compared:
    yield _scores(p, batch)
  held_out = p.given.dataset.loader(
    assembly.loss.batch, "eval", stage.batch_size, epochs=1, shuffle=False
  )
  yield _evaluation(p, _batch(p, held_out))


def _batch(p: StagePlan, batches: data.Loader) -> Any:
  """Shapes and shardings of the first batch."""
  batch = next(batches)
  batches.close()
  record = batch.data
  if p.stage.reference == "precompute" and p.assembly.objective.needs_reference:
    rows = len(record.sequences.tokens) // len(record.weights)
    table = dict.fromkeys(batch.sources, np.zeros(rows, np.float32))
    record = reference.attach(record, batch.sources, table)
  return laid(record, jax.tree.map(lambda x: rows_at(x, p.mesh), record))


def update(p: StagePlan, batch: Any, counted: float) -> Program:
  """The update of a stage.

  Args:
    p: the stage.
    batch: shapes and shardings of a batch of the stage's loss.
    counted: share of the tokens that the loss counts.
  """
  stage, assembly = p.stage, p.assembly
  compared = assembly.objective.needs_reference
  compared &= stage.reference != "precompute"
  ref_params = p.start if compared else None
  rows, tokens = _rows(batch)
  arguments = {
    "parameters": p.state.params,
    "optimiser": p.state.opt_state,
    "frozen": assembly.frozen,
    "reference": ref_params,
    "batch": batch,
  }
  rank, specs = stage.lora.rank, assembly.part.specs
  return Program(
    f"{stage.name}: update",
    functools.partial(assembly.lower, p.state, batch, ref_params),
    lambda: arguments,
    p.resident,
    Update(
      rows,
      tokens,
      stage.microbatches,
      counted=counted,
      reference=compared,
      kept=not compared and not jax.tree.leaves(assembly.frozen),
      moments=stage.optimizer.moments,
      trained=frozenset(by_path(specs)) if stage.trainable else None,
      rank=rank,
      changed=tuple(specs["blocks"]) if rank else (),
    ),
  )


def _counted(stage: StageSettings) -> float:
  """Share of the made-up tokens that are scored: those of the response."""
  prompt, response = stand_in.widths(stage.data)
  return response / (prompt + response)


def lowering(
  program: Any, *arguments: Any
) -> Callable[..., jax.stages.Lowered]:
  """Makes the function that lowers a jitted program."""

  def lower(platforms: tuple[str, ...] | None = None) -> jax.stages.Lowered:
    return program.trace(*arguments).lower(lowering_platforms=platforms)

  return lower


def _rows(batch: Any) -> tuple[int, int]:
  """Rows and columns of the tokens that a model reads of a batch."""
  sequences = batch.sequences
  if sequences.packed is not None:
    groups, rows, width = sequences.packed.tokens.shape
    return groups * rows, width
  rows, width = sequences.tokens.shape
  more = getattr(batch, "mismatched", None)
  return rows + (0 if more is None else len(more.tokens)), width


def _scores(p: StagePlan, batch: Any) -> Program:
  """The reference's log-probs, which are computed before the first step."""
  score = reference.make_score(p.assembly.model)
  return Program(
    f"{p.stage.name}: reference",
    lowering(score, p.start, batch.sequences),
    lambda: {"reference": p.start, "batch": batch.sequences},
    p.resident,
    Score(*_rows(batch), _counted(p.stage)),
    runs=0,
  )


def _evaluation(p: StagePlan, batch: Any) -> Program:
  """Loss and metrics of a held-out batch."""
  assembly = p.assembly
  policy = assembly.policy(p.state.params)
  ref_params = p.start if assembly.objective.needs_reference else None
  evaluate = make_evaluation(assembly.objective)
  passes = 1 if ref_params is None else 2
  return Program(
    f"{p.stage.name}: evaluation",
    lowering(evaluate, policy, batch, ref_params),
    lambda: {"parameters": policy, "reference": ref_params, "batch": batch},
    p.resident,
    Score(*_rows(batch), _counted(p.stage), passes),
    runs=0,
  )


def check_divisible(stage: StageSettings, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError for a batch that the mesh's batch axes don't divide."""
  shards = axis_size(mesh, BATCH_AXES)
  ways = shards * stage.microbatches
  if stage.batch_size % ways:
    raise UserError(
      f"{stage.batch_size} examples in {stage.microbatches} microbatches don't"
      f" divide over the {shards} devices of the mesh's data and fsdp axes.",
      where=f"config.{stage.name}.batch_size",
      remedy=f"Choose a multiple of {ways}, or a mesh with fewer devices along"
      " data and fsdp.",
    )
