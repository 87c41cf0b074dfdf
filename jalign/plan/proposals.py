"""Proposes meshes for a run: all by formula, the best few by compiling."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jalign.experiment.config.settings import Settings
from jalign.models import ModelConfig
from jalign.plan import memory
from jalign.plan.programs import Program
from jalign.plan.search import Candidate, Choice, Found, Phase, search
from jalign.plan.topology import Topology
from jalign.plan.workload import Rollout, Score, Step, Update

GIB = 2**30
# Formulas may be off by so much: what needs more isn't compiled.
SLACK = 1.2


class Proposal(NamedTuple):
  """A candidate as compiled.

  Attributes:
    candidate: the candidate, with its figures by formula.
    needs: program -> bytes of a device as compiled.
    fits: whether all programs fit.
    seconds: seconds of a step by the compiled programs; None where a figure is
      missing.
  """

  candidate: Candidate
  needs: dict[str, float]
  fits: bool
  seconds: float | None


def phases_of(programs: Iterator[Program], settings: Settings) -> list[Phase]:
  """The phases of a run's steps, and scoring outside of steps.

  Args:
    programs: the run's programs, on any mesh.
    settings: the run's settings.
  """
  phases = []
  for program in programs:
    if isinstance(program.work, Step | None):
      continue
    if not program.runs and not isinstance(program.work, Score):
      continue
    stage = settings.stage(program.name.partition(": ")[0])
    rows = stage.batch_size
    if isinstance(program.work, Update):
      parts = dict(stage.algorithm_settings).get("minibatches", 1)
      rows //= stage.microbatches * parts
    if isinstance(program.work, Rollout):
      rows = program.work.prompts
    apart = isinstance(program.work, Rollout)
    phases.append(Phase(program.name, program.work, program.runs, rows, apart))
  return phases


def propose(
  settings: Settings,
  model: ModelConfig,
  target: Topology,
  phases: Sequence[Phase],
  measure: Callable[[Settings], Sequence[Any]],
  count: int,
) -> tuple[Found, list[Proposal]]:
  """Searches by formula, and compiles the best meshes until `count` fit.

  Args:
    settings: the run's settings.
    model: the run's model.
    target: the devices.
    phases: the phases of a step.
    measure: `settings -> what each program needs`, by compiling.
    count: number of meshes to compile; more if none of these fits.
  """
  dense = memory.dense_attention(model, target.chip.platform)
  found = search(model, phases, target.chip, len(target.devices), dense=dense)
  near = [c for c in found.large if c.needs <= SLACK * target.chip.usable]
  proposals: list[Proposal] = []
  for candidate in [*found.fitting, *near] if count else []:
    if len(proposals) >= count and any(p.fits for p in proposals):
      break
    mesh = dataclasses.replace(settings.mesh, **flags_of(candidate))
    measured = measure(dataclasses.replace(settings, mesh=mesh))
    bounds = [m.bound for m in measured]
    known = all(b is not None and b.seconds is not None for b in bounds)
    proposals.append(
      Proposal(
        candidate,
        {m.name: m.needs for m in measured},
        all(m.fits for m in measured),
        sum(m.runs * m.bound.seconds for m in measured) if known else None,
      )
    )
  proposals.sort(key=lambda p: (not p.fits, p.seconds or 0.0))
  return found, proposals


def flags_of(candidate: Candidate) -> dict[str, int]:
  """The keys of `config.mesh` that make a candidate's layouts."""
  keys = dict(zip(("data", "fsdp", "tensor"), candidate.sizes))
  for choice in candidate.choices:
    if choice.phase.apart:
      same = choice.sizes == candidate.sizes
      keys["decode_tensor"] = 0 if same else choice.sizes[2]
  return keys


def text(found: Found, proposals: Sequence[Proposal], target: Topology) -> str:
  """What was found, as text: the best with its reasons, and the runners-up."""
  lines = [
    f"search: {len(found.fitting) + len(found.large) + len(found.undivided)}"
    f" meshes of {len(target.devices)} x {target.chip.name};"
    f" {len(found.undivided)} don't divide the model or the batch,"
    f" {len(found.large)} don't fit by formula"
  ]
  reasons = sorted(set(found.undivided.values()))
  lines += [f"  {why}" for why in reasons[:4]]
  fitting = [p.candidate for p in proposals if p.fits] or (
    [] if proposals else found.fitting
  )
  if not fitting:
    return "\n".join([*lines, *_nothing(found, proposals, target)])
  best, *others = fitting
  lines += ["", f"best: {' '.join(_flags(best))}"]
  lines += [f"  {_reason(choice, best)}" for choice in best.choices]
  lines += _compiled(proposals, best, target)
  if others:
    lines += ["", "runners-up:"]
  for other in others[:4]:
    lines.append(f"  {' '.join(_flags(other))}: {_against(other, best)}")
    lines += _compiled(proposals, other, target)
  refused = [p for p in proposals if not p.fits]
  for p in refused:
    lines.append(
      f"  {' '.join(_flags(p.candidate))}: fits by formula, but the compiler"
      f" needs {max(p.needs.values()) / GIB:.2f} GiB"
    )
  return "\n".join(lines)


def as_json(found: Found, proposals: Sequence[Proposal]) -> dict[str, Any]:
  """Plain values of all of it, in bytes and seconds."""
  tried = [*found.fitting, *found.large]
  return {
    "search": [
      {
        "flags": _flags(c),
        "seconds": c.seconds,
        "needs_bytes": c.needs,
        "phases": [
          {
            "program": choice.phase.name,
            "mesh": choice.sizes,
            "seconds": choice.seconds,
            "bound_by": choice.bound.by,
            "moved_bytes": choice.moved,
            "memory": choice.memory,
          }
          for choice in c.choices
        ],
      }
      for c in tried
    ],
    "undivided": {
      "x".join(map(str, sizes)): why for sizes, why in found.undivided.items()
    },
    "compiled": [
      {
        "flags": _flags(p.candidate),
        "fits": p.fits,
        "seconds": p.seconds,
        "needs_bytes": p.needs,
      }
      for p in proposals
    ],
  }


def _nothing(found, proposals, target) -> list[str]:
  if not found.fitting and not found.large:
    return ["", "no mesh divides the model and the batch."]
  least = min([*found.fitting, *found.large], key=lambda c: c.needs)
  needs = least.needs
  for p in proposals:
    if p.candidate is least:
      needs = max(p.needs.values())
  return [
    "",
    f"nothing fits: the smallest, {' '.join(_flags(least))}, needs"
    f" {needs / GIB:.2f} GiB of the {target.chip.usable / GIB:.2f} GiB of a"
    " device.",
  ]


def _flags(candidate: Candidate) -> list[str]:
  keys = flags_of(candidate)
  flags = ["--mesh=" + "x".join(map(str, candidate.sizes))]
  if keys.get("decode_tensor"):
    flags.append(f"--config.mesh.decode_tensor={keys['decode_tensor']}")
  return flags


def _reason(choice: Choice, candidate: Candidate) -> str:
  b = choice.bound
  said = f"{choice.phase.name} on {'x'.join(map(str, choice.sizes))}:"
  if b.seconds is None:
    return f"{said} {choice.needs / GIB:.2f} GiB"
  times = {"compute": b.compute, "memory": b.memory, "links": b.links}
  rest = ", ".join(
    f"{name} {t:.3g} s"
    for name, t in times.items()
    if t is not None and name != b.by
  )
  said += f" {b.seconds:.3g} s by {b.by} ({rest}), {choice.needs / GIB:.2f} GiB"
  if choice.phase.times > 1:
    said += f", {choice.phase.times} times a step"
  elif not choice.phase.times:
    said += ", outside of steps"
  if choice.sizes != candidate.sizes:
    said += (
      f"; {choice.moved / 1e9:.3g} GB of weights move to each device, once a"
      " rollout"
    )
  return said


def _against(other: Candidate, best: Candidate) -> str:
  if not best.seconds:
    return f"{other.needs / GIB:.2f} GiB by formula"
  slowest = max(other.choices, key=lambda c: c.seconds)
  return (
    f"{other.seconds / best.seconds:.2f} x the time by formula"
    f" ({slowest.phase.name} by {slowest.bound.by}),"
    f" {other.needs / GIB:.2f} GiB"
  )


def _compiled(proposals, candidate, target) -> list[str]:
  for p in proposals:
    if p.candidate is candidate:
      most = max(p.needs, key=lambda name: p.needs[name])
      return [
        f"  compiled: {p.needs[most] / GIB:.2f} GiB of"
        f" {target.chip.usable / GIB:.2f} at the most, in {most}"
      ]
  return []
