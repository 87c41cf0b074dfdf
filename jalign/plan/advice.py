"""What to change in a run that doesn't fit, tried by compiling.

The need of a changed run is first estimated: what the compiler said of the run
as it is, times the factor that the formulas see.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError
from jalign.experiment.config.settings import Settings
from jalign.plan import changes, memory, proposals, search
from jalign.plan.asked import model_for
from jalign.plan.changes import Change
from jalign.plan.topology import Topology
from jalign.plan.tries import alone

GIB = 2**30
TRIED = 2  # changes that are compiled
MOST = 4  # changes that are tried together


class Advice(NamedTuple):
  """A change, and what comes of it.

  Attributes:
    flags: what to add to the command.
    needs: bytes of a device, of the program that needs most.
    fits: whether that is little enough.
    compiled: whether the compiler said so, and not an estimate.
  """

  flags: Sequence[str]
  needs: float
  fits: bool
  compiled: bool


def advise(
  settings: Settings,
  target: Topology,
  needs: Mapping[str, float],
  measure: Callable[[Settings, Topology, Sequence[str]], Iterable[Any]],
) -> list[Advice]:
  """What mends a run that doesn't fit, the best first.

  Args:
    settings: the run's settings.
    target: the devices.
    needs: program -> bytes of a device, by the compiler.
    measure: `(settings, devices, names of programs) -> what they need`, by
      compiling.
  """
  usable = target.chip.usable
  try:
    before = formula(settings, target)
  except UserError:
    return []
  known = {name: needs[name] for name in needs if name in before}
  large = [name for name, value in known.items() if value > usable]
  if not large:
    return []
  stages = sorted({name.partition(": ")[0] for name in large})

  @functools.cache
  def of(items: tuple[Any, ...]) -> float:
    after = formula(changes.changed(settings, dict(items)), target)
    return max(known[k] * after[k] / before[k] for k in known)

  def estimate(change: Change) -> float:
    try:
      return of(tuple(sorted(change.items(), key=str)))
    except UserError:
      return float("inf")

  kinds = [_meshes(settings, target), *changes.kinds(settings, stages)]
  best = [least(kind, estimate, usable) for kind in kinds]
  useful = [
    change
    for change in (changes.effective(settings, c) for c in best)
    if change and estimate(change) < 0.99 * estimate({})
  ]
  tried = [change for change in useful if estimate(change) <= usable]
  if not tried:
    # Estimates may be too large, and the compiler decides.
    tried = together(useful, estimate, usable) or together(
      useful, estimate, proposals.SLACK * usable
    )
  advice = []
  for change in tried[:TRIED]:
    apart = any(key.startswith("mesh.") for _, key in change)
    names = list(known if apart else large)
    try:
      tried_out = changes.changed(settings, change)
      measured = list(measure(tried_out, target, names))
    except UserError:
      continue
    most = max((m.needs for m in measured), default=0.0)
    fits = all(m.fits for m in measured)
    advice.append(Advice(changes.flags(settings, change), most, fits, True))
  for change in useful:
    if change not in tried[:TRIED]:
      value = estimate(change)
      flags = changes.flags(settings, change)
      advice.append(Advice(flags, value, value <= usable, False))
  return sorted(advice, key=lambda a: (not a.fits, not a.compiled))


def least(
  kind: Sequence[Change], estimate: Callable[[Change], float], usable: float
) -> Change:
  """The least change of a kind that is enough, or else what saves most."""
  for change in kind:
    if estimate(change) <= usable:
      return change
  return min(kind, key=estimate, default={})


def together(
  useful: Sequence[Change],
  estimate: Callable[[Change], float],
  usable: float,
) -> list[Change]:
  """Changes that are enough together: of those with fewest, the first ones."""
  for count in range(2, min(len(useful), MOST) + 1):
    enough = []
    for parts in itertools.combinations(useful, count):
      joined: Change = functools.reduce(lambda a, b: {**a, **b}, parts)
      if estimate(joined) <= usable:
        enough.append(joined)
      if len(enough) == TRIED:
        break
    if enough:
      return enough
  return []


def formula(settings: Settings, target: Topology) -> dict[str, float]:
  """Program -> bytes of a device by formula, on the mesh of the settings.

  Raises:
    UserError: the settings make no sense.
  """
  model, _ = model_for(settings, target)
  dense = memory.dense_attention(model, target.chip.platform)
  phases = proposals.phases_of(alone(settings, model, target), settings)
  sizes = _sizes(settings, len(target.devices))
  found = {}
  for phase in phases:
    tensor = settings.mesh.decode_tensor if phase.apart else 0
    own = next(
      (o for o in search.layouts(phase, sizes) if o[2] == tensor), sizes
    )
    why = search.undivided(model, [phase], own)
    if why:
      raise UserError(why, where="mesh")
    choice = search.on(model, phases, phase, sizes, own, target.chip, dense)
    held = dict(choice.memory)
    offload = settings.stage(phase.name.partition(": ")[0]).offload
    for part, name in (("optimizer", "optimiser"), ("start", "reference")):
      if part in offload:
        held.pop(name, None)
    found[phase.name] = sum(held.values())
  return found


def _sizes(settings: Settings, devices: int) -> search.Sizes:
  data, fsdp, tensor = settings.mesh.sizes
  return devices // (fsdp * tensor) if data == -1 else data, fsdp, tensor


def _meshes(settings: Settings, target: Topology) -> list[Change]:
  """The best mesh that fits by formula, or the one that needs least."""
  model, _ = model_for(settings, target)
  phases = proposals.phases_of(alone(settings, model, target), settings)
  dense = memory.dense_attention(model, target.chip.platform)
  count = len(target.devices)
  found = search.search(model, phases, target.chip, count, dense=dense)
  return [
    {("", f"mesh.{k}"): n for k, n in proposals.flags_of(candidate).items()}
    for candidate in [*found.fitting, *found.large][:1]
  ]


def heading(needs: Mapping[str, float], target: Topology) -> str:
  """By how much the programs of a run don't fit."""
  usable = target.chip.usable
  return "\n".join(
    [
      "",
      *(
        f"{name} needs {value / GIB:.2f} GiB of {usable / GIB:.2f}:"
        f" {(value - usable) / GIB:.2f} GiB too much."
        for name, value in needs.items()
        if value > usable
      ),
    ]
  )


def text(advice: Sequence[Advice]) -> str:
  """What mends a run that doesn't fit."""
  if not advice:
    return "No change was tried: none is known to help these programs."
  lines = []
  for fits, title in (
    (True, "The run fits with"),
    (False, "These changes help, but aren't enough by themselves:"),
  ):
    lines += [title] if any(a.fits == fits for a in advice) else []
    for a in advice:
      if a.fits == fits:
        how = "compiled" if a.compiled else "estimated"
        lines.append(f"  {' '.join(a.flags)}")
        lines.append(f"    {a.needs / GIB:.2f} GiB, {how}")
  if not any(a.fits for a in advice):
    lines.append("Nothing that was tried is enough: take more devices.")
  return "\n".join(lines)
