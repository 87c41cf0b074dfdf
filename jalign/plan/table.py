"""A plan as text for the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jalign.plan.measured import Measured
from jalign.plan.roofline import Bound
from jalign.plan.topology import Topology

GB, GIB = 1e9, 2**30


def heading(
  target: Topology, mesh: Any, parameters: int, notes: Sequence[str]
) -> str:
  """The lines above the programs.

  Args:
    target: what is planned for.
    mesh: the mesh.
    parameters: number of the model's parameters.
    notes: further lines.
  """
  chip, count = target.chip, len(target.devices)
  sizes = " x ".join(str(n) for n in mesh.shape.values())
  lines = [
    f"{target.name}: {_count(count, 'device')} of kind {chip.kind} on"
    f" {_count(target.hosts, 'host')}, each with"
    f" {chip.usable / GIB:.2f} GiB ({chip.usable / GB:.2f} GB) to use",
    f"mesh: {sizes} (data x fsdp x tensor)",
    f"model: {parameters / 1e6:,.4g} million parameters",
    *notes,
  ]
  return "\n".join(lines)


def block(m: Measured) -> str:
  """The lines on one program; numbers are of one device."""
  lines = ["", f"{m.name}: {_verdict(m)}"]
  row = lambda name, text: lines.append(
    textwrap.fill(
      text,
      79,
      initial_indent=f"  {name:<12}",
      subsequent_indent=" " * 14,
      break_on_hyphens=False,
    )
  )
  if m.memory is not None:
    parts = {
      **m.memory.arguments,
      **m.memory.made,
      "activations and temporaries": m.memory.temporaries,
      "code": m.memory.code,
    }
    row("memory", _sizes(parts))
    if m.memory.host:
      row("on the host", _amount(m.memory.host, "B"))
    if m.memory.beside:
      row("beside it", _sizes(m.memory.beside))
  if m.bound is not None:
    _roofline(m.bound, row)
  shown = [c for c in m.collectives if c.sent * 100 >= m.collectives[0].sent]
  for c in shown:
    row(
      "collective",
      f"{c.kind} {c.dtype}, {c.times} in {_count(c.sites, 'place')}:"
      f" {_amount(c.bytes, 'B')}, {_amount(c.sent, 'B')} sent",
    )
  row("compiled", f"in {m.seconds[1]:.0f} s")
  return "\n".join(lines)


def _verdict(m: Measured) -> str:
  said = f"{_amount(m.needs, 'B')} of {_amount(m.usable, 'B')}"
  if m.fits:
    return f"fits, {said}"
  refused = "the compiler refuses it, " if m.memory is None else ""
  more = _amount(m.needs - m.usable, "B")
  return f"doesn't fit, {refused}{said}: {more} too much"


def _roofline(b: Bound, row) -> None:
  row(
    "work",
    f"{_amount(b.flops, 'FLOP')}, {_amount(b.bytes, 'B')} through memory"
    f" ({b.intensity:.0f} FLOP a byte), {_amount(b.sent, 'B')} sent",
  )
  if b.seconds is None:
    return
  times = {"compute": b.compute, "memory": b.memory, "links": b.links}
  said = ", ".join(f"{k} {_time(t)}" for k, t in times.items() if t is not None)
  row("time", f"{_time(b.seconds)} at least, bound by {b.by} ({said})")


def _sizes(parts: Mapping[str, float]) -> str:
  return ", ".join(
    f"{name} {_amount(size, 'B')}" for name, size in parts.items() if size
  )


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'s' * (number != 1)}"


def _amount(number: float, unit: str) -> str:
  """A number with one of the units' prefixes."""
  for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
    if number >= size:
      return f"{number / size:.3g} {prefix}{unit}"
  return f"{number / 1e3:.3g} k{unit}"


def _time(seconds: float) -> str:
  return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
