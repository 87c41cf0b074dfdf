"""What a compiled program needs: memory, FLOPs, bytes, collectives, time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jalign.models import ModelConfig
from jalign.plan import formulas
from jalign.plan import memory as by_formula
from jalign.plan.chips import Chip
from jalign.plan.collectives import Row, collectives, summed
from jalign.plan.compiled import Compiled, Memory, compile_program
from jalign.plan.hlo import Module
from jalign.plan.programs import Program
from jalign.plan.roofline import Bound, bound
from jalign.plan.traffic import moved
from jalign.plan.workload import Rollout


class Measured(NamedTuple):
  """A program's needs on each device.

  Attributes:
    name: "STAGE: what it does".
    runs: how often a step of the stage runs the program.
    memory: bytes by category; None if the compiler refused the program.
    needs: bytes that the program needs: with what lies beside it, if it was
      compiled, and else by the compiler's own words.
    usable: bytes that there are.
    bound: FLOPs, bytes and times; None if the compiler refused the program.
    collectives: by kind and dtype.
    seconds: seconds of lowering and of compiling.
  """

  name: str
  runs: int
  memory: Memory | None
  needs: float
  usable: float
  bound: Bound | None
  collectives: Sequence[Row]
  seconds: tuple[float, float]

  @property
  def fits(self) -> bool:
    """Whether the compiler takes the program, and memory is enough for it."""
    return self.memory is not None and self.needs <= self.usable


def measure(
  program: Program,
  model: ModelConfig,
  mesh: jax.sharding.Mesh,
  chip: Chip,
  *,
  quiet: bool = False,
) -> Measured:
  """Compiles a program, and says what it needs.

  Args:
    program: the program.
    model: the model's config.
    mesh: the mesh that is planned for.
    chip: published figures of its devices.
    quiet: whether to print nothing while the compiler works.
  """
  return read(compile_program(program, mesh, quiet=quiet), model, mesh, chip)


def read(
  compiled: Compiled, model: ModelConfig, mesh: jax.sharding.Mesh, chip: Chip
) -> Measured:
  """What a compiled program needs; Args as in `measure`."""
  program, memory = compiled.program, compiled.memory
  work = program.work
  if memory is not None and isinstance(work, Rollout):
    memory = _of_rollout(memory, model, work, program.mesh or mesh)
  if memory is None:
    beside = sum(compiled.beside.values())
    needs = (compiled.needs or 0) + beside
    usable = compiled.available or chip.usable
    return Measured(
      *(program.name, program.runs, None, needs, usable, None, ()),
      compiled.seconds,
    )
  module = Module(compiled.text, program.trips)
  rows = summed(collectives(module, mesh.size))
  flops = formulas.of(model, work).total / mesh.size if work else 0.0
  traffic: float = sum(moved(module).values())
  sent = sum(row.sent for row in rows)
  return Measured(
    program.name,
    program.runs,
    memory,
    memory.total,
    chip.usable,
    bound(chip, flops, traffic, sent),
    rows,
    compiled.seconds,
  )


def _of_rollout(
  memory: Memory, model: ModelConfig, work: Rollout, mesh: jax.sharding.Mesh
) -> Memory:
  """Names what a rollout makes itself: weights for decoding, and the cache."""
  sizes = by_formula.of(model, work, mesh)
  made = {name: int(sizes[name]) for name in ("decoding weights", "cache")}
  if sum(made.values()) > memory.temporaries:
    return memory  # the compiler has found a way to hold less
  return memory._replace(
    made=made, temporaries=memory.temporaries - sum(made.values())
  )


def as_json(m: Measured) -> dict[str, Any]:
  """Plain values of all of it: bytes, FLOPs and seconds of one device."""
  memory, b = m.memory, m.bound
  stage, _, kind = m.name.partition(": ")
  values = {
    "name": m.name,
    "stage": stage,
    "kind": kind,
    "runs_per_step": m.runs,
    "fits": m.fits,
    "needs_bytes": m.needs,
    "usable_bytes": m.usable,
    "seconds": dict(zip(("lower", "compile"), m.seconds)),
  }
  if memory is None or b is None:
    return values | {"refused": True}
  return values | {
    "refused": False,
    "peak_bytes": memory.peak,
    "memory": {
      **memory.arguments,
      **memory.made,
      "activations/temporaries": memory.temporaries,
      "code": memory.code,
    },
    "beside": dict(memory.beside),
    "host_bytes": memory.host,
    "flops": b.flops,
    "hbm_bytes": b.bytes,
    "sent_bytes": b.sent,
    "intensity": b.intensity,
    "collectives": [
      {
        "kind": row.kind,
        "dtype": row.dtype,
        "sites": row.sites,
        "count": row.times,
        "bytes": row.bytes,
        "sent_bytes": row.sent,
      }
      for row in m.collectives
    ],
    "expected_seconds": {
      "compute": b.compute,
      "memory": b.memory,
      "links": b.links,
      "at_least": b.seconds,
    },
    "bound": b.by,
  }
