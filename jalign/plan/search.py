"""Which mesh is best for a run's programs, by formula.

Each phase of a step may have a layout of its own, as in ReaLHF (Mei et al.
2024, arXiv:2406.14088): the update has one mesh, and a rollout may group the
same devices otherwise, with more of them along `tensor`. Parameters then move
between the two layouts once a step, in the dtype of the products.

Given the update's mesh, the phases are independent: each takes the layout that
is best for it. So the search is over meshes, and over the layouts of one phase
at a time.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jalign.models import ModelConfig, param_specs
from jalign.plan import formulas, least, memory
from jalign.plan.chips import Chip
from jalign.plan.roofline import Bound, bound
from jalign.plan.rules import mesh_of
from jalign.plan.workload import Rollout, Update, Work
from jalign.sharding import axis_size, by_path, fault, mesh_axes

Sizes = tuple[int, int, int]


class Phase(NamedTuple):
  """A program of a step.

  Attributes:
    name: "STAGE: what the program does".
    work: what the program computes.
    times: how often a step runs the program.
    rows: examples that the batch axes have to divide.
    apart: whether the phase may have a layout of its own.
  """

  name: str
  work: Work
  times: int
  rows: int
  apart: bool = False


class Choice(NamedTuple):
  """A phase on a layout.

  Attributes:
    phase: the phase.
    sizes: devices along data, fsdp and tensor.
    bound: FLOPs, bytes and seconds of one run of the program.
    memory: bytes of a device by category, with what other phases keep there.
    moved: bytes that a device receives, for the parameters' other layout.
    seconds: seconds of all the phase's runs in a step, moves included.
  """

  phase: Phase
  sizes: Sizes
  bound: Bound
  memory: dict[str, float]
  moved: float
  seconds: float

  @property
  def needs(self) -> float:
    """Bytes of a device in all."""
    return sum(self.memory.values())


class Candidate(NamedTuple):
  """A mesh with the best layout of each phase.

  Attributes:
    sizes: the mesh: devices along data, fsdp and tensor.
    choices: the phases, in their order.
  """

  sizes: Sizes
  choices: tuple[Choice, ...]

  @property
  def seconds(self) -> float:
    """Seconds of a step, if each part meets its bound."""
    return sum(choice.seconds for choice in self.choices)

  @property
  def needs(self) -> float:
    """The most bytes of a device at a time."""
    return max(choice.needs for choice in self.choices)

  @property
  def key(self) -> tuple[float, float, float]:
    """Less is better: time, then what hides behind the bound, then memory."""
    hidden = sum(
      c.phase.times * sum(t or 0.0 for t in c.bound[3:]) for c in self.choices
    )
    return float(f"{self.seconds:.6g}"), float(f"{hidden:.6g}"), self.needs


class Found(NamedTuple):
  """What a search found.

  Attributes:
    fitting: candidates that fit by formula, the best first.
    large: candidates that don't, the smallest first.
    undivided: mesh -> why it can't hold the model or the batch.
  """

  fitting: list[Candidate]
  large: list[Candidate]
  undivided: dict[Sizes, str]


def meshes(devices: int) -> Iterator[Sizes]:
  """All meshes of so many devices."""
  for tensor in range(1, devices + 1):
    if devices % tensor == 0:
      rest = devices // tensor
      for fsdp in range(1, rest + 1):
        if rest % fsdp == 0:
          yield rest // fsdp, fsdp, tensor


def search(
  c: ModelConfig,
  phases: Sequence[Phase],
  chip: Chip,
  devices: int,
  *,
  dense: bool = False,
) -> Found:
  """Tries all meshes, and for each phase all layouts that it may have.

  Args:
    c: the model's config.
    phases: the phases of a step.
    chip: figures of the devices.
    devices: number of devices.
    dense: whether training's attention holds the scores of all pairs.
  """
  found = Found([], [], {})
  for sizes in meshes(devices):
    fixed = [phase for phase in phases if not phase.apart]
    why = undivided(c, fixed, sizes)
    if why:
      found.undivided[sizes] = why
      continue
    chosen = [best(c, phases, p, sizes, chip, dense) for p in phases]
    if None in chosen:
      found.undivided[sizes] = undivided(c, phases, sizes)
      continue
    candidate = Candidate(sizes, tuple(filter(None, chosen)))
    fits = candidate.needs <= chip.usable
    (found.fitting if fits else found.large).append(candidate)
  found.fitting.sort(key=lambda candidate: candidate.key)
  found.large.sort(key=lambda candidate: candidate.needs)
  return found


def best(
  c: ModelConfig,
  phases: Sequence[Phase],
  phase: Phase,
  sizes: Sizes,
  chip: Chip,
  dense: bool,
) -> Choice | None:
  """The best layout of a phase of a run with that mesh; None if there is none.

  A layout that fits is better than any that doesn't.
  """
  choices = [
    on(c, phases, phase, sizes, own, chip, dense)
    for own in layouts(phase, sizes)
    if not undivided(c, [phase], own)
  ]

  def key(choice):
    hidden = sum(t or 0.0 for t in choice.bound[3:])
    excess = max(choice.needs - chip.usable, 0.0)
    return excess, float(f"{choice.seconds:.6g}"), hidden, choice.needs

  return min(choices, key=key, default=None)


def layouts(phase: Phase, sizes: Sizes) -> Iterator[Sizes]:
  """The layouts that a phase of a run with that mesh may have.

  They group the same devices by another size of `tensor`, as
  `jalign.decode.regrouped` does.
  """
  yield sizes
  if not phase.apart:
    return
  count = sizes[0] * sizes[1] * sizes[2]
  for tensor in range(1, count + 1):
    if count % tensor or tensor == sizes[2]:
      continue
    rest = count // tensor
    data = rest if rest % sizes[0] else sizes[0]
    yield data, rest // data, tensor


def undivided(c: ModelConfig, phases: Sequence[Phase], sizes: Sizes) -> str:
  """Why a mesh can't hold the model or a phase's batch; "" if it can."""
  why = _fault(c, sizes)
  if why:
    return why
  for phase in phases:
    if phase.rows % (sizes[0] * sizes[1]):
      return (
        f"{phase.name}: {sizes[0] * sizes[1]} devices along data and fsdp"
        f" don't divide {phase.rows} examples"
      )
  return ""


@functools.lru_cache
def _fault(c: ModelConfig, sizes: Sizes) -> str:
  """Why a mesh can't hold the first parameter that it can't hold; or ""."""
  mesh = mesh_of(sizes)
  for path, spec in by_path(param_specs(c)).items():
    why = fault(spec, mesh, c.rules)
    if why:
      return f"{path}: {why}"
  return ""


def on(
  c: ModelConfig,
  phases: Sequence[Phase],
  phase: Phase,
  sizes: Sizes,
  own: Sizes,
  chip: Chip,
  dense: bool = False,
) -> Choice:
  """A phase on a layout `own`, in a run whose mesh has `sizes`.

  Args:
    c: the model's config.
    phases: all phases, for what they keep in memory.
    phase: the phase.
    sizes: the run's mesh.
    own: the phase's layout, of as many devices.
    chip: figures of the devices.
    dense: whether training's attention holds the scores of all pairs.
  """
  mesh, count = mesh_of(own), own[0] * own[1] * own[2]
  tokens = 1 if isinstance(phase.work, Rollout) else phase.work.tokens
  flops = formulas.of(c, phase.work, tokens if dense else 1).total / count
  traffic = least.of(c, phase.work, mesh)
  links = dict(traffic.links)
  moved = 0.0
  models = getattr(phase.work, "models", 1)
  if phase.apart and own != sizes:
    # The move takes the place of the gathers on one mesh.
    moved = models * received(c, sizes, own)
    links["gather parameters"] = moved
  limits = bound(chip, flops, traffic.memory, sum(links.values()))
  seconds = phase.times * (limits.seconds or 0.0)
  held = memory.of(c, phase.work, mesh, dense=dense)
  return Choice(
    phase, own, limits, _with(c, phases, held, phase, sizes), moved, seconds
  )


def _with(c, phases, held, phase, sizes) -> dict[str, float]:
  """A phase's memory with what its stage keeps on the run's mesh."""
  if isinstance(phase.work, Update):
    return held
  mesh, stage = mesh_of(sizes), phase.name.partition(": ")[0]
  states = [
    p.work
    for p in phases
    if isinstance(p.work, Update) and p.name.partition(": ")[0] == stage
  ]
  if not states:
    parameters = memory.of(c, phase.work, mesh)["parameters"]
    return held | {"parameters": parameters}
  state = memory.of(c, states[0], mesh)
  kept = ("parameters", "optimiser", "reference")
  return held | {name: state[name] for name in kept}


@functools.lru_cache
def received(c: ModelConfig, sizes: Sizes, own: Sizes) -> float:
  """Bytes that a device receives to have the weights in a decoding layout.

  In the layout `own` the weights are split over `tensor` alone. A device keeps
  what it holds of its part under the mesh `sizes`; the device that receives
  most counts.

  Args:
    c: the model's config.
    sizes: the mesh on which the parameters lie.
    own: the other mesh of the same devices, in the same order.
  """
  rules = tuple((name, axes) for name, axes in c.rules if name != "embed")
  count = sizes[0] * sizes[1] * sizes[2]
  here, there = (_coordinates(s, count) for s in (sizes, own))
  size = jnp.dtype(c.dtype).itemsize
  total = np.zeros(count)
  for spec in by_path(param_specs(c)).values():
    wanted, held = np.ones(count), np.ones(count)
    for length, name in zip(spec.shape, spec.axes):
      a = _interval(
        length, mesh_axes((name,), c.rules)[0], mesh_of(sizes), here
      )
      b = _interval(length, mesh_axes((name,), rules)[0], mesh_of(own), there)
      wanted = wanted * (b[1] - b[0])
      both = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])
      held = held * np.maximum(both, 0)
    total += wanted - held
  return float(total.max()) * size


def _coordinates(sizes: Sizes, count: int) -> dict[str, Any]:
  """Each device's place along each axis."""
  data, fsdp, tensor = np.unravel_index(np.arange(count), sizes)
  return {"data": data, "fsdp": fsdp, "tensor": tensor}


def _interval(length, axes, mesh, places) -> tuple[Any, Any]:
  """First and last index of the part of an axis that each device has."""
  names = () if axes is None else (axes,) if isinstance(axes, str) else axes
  index: Any = 0
  for name in names:
    index = index * axis_size(mesh, name) + places[name]
  part = length / axis_size(mesh, axes)
  return index * part, (index + 1) * part
