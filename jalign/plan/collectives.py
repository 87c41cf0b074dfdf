"""Counts the collectives of a compiled program."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jalign.plan.hlo import Instruction, Module

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)


class Collective(NamedTuple):
  """A collective of a program.

  Attributes:
    kind: one of KINDS.
    dtype: dtype of what is sent.
    devices: devices that take part together.
    bytes: bytes of a device's result or, if that is larger, of its operand.
    sent: bytes that a device sends to the next one of a ring.
    times: how often it runs.
    loop: name of the innermost loop around it; "" if there is none.
    source: the operation that it was made of, as jax names it.
  """

  kind: str
  dtype: str
  devices: int
  bytes: int
  sent: float
  times: int
  loop: str
  source: str


def collectives(module: Module, devices: int) -> list[Collective]:
  """The collectives of a program.

  Args:
    module: the program.
    devices: number of devices of the mesh.
  """
  by_channel: dict[str, Collective] = {}
  for visit in module.visits():
    i = visit.instruction
    kind = i.op.removesuffix("-start")
    if kind not in KINDS:
      continue
    found = _collective(i, kind, devices, visit.times, visit.loop)
    # A TPU's program may hold a collective in two pieces, its start and what
    # follows, that have one channel.
    channel = re.search(r"channel_id=(\d+)", i.text)
    key = channel[1] if channel else f"{visit.computation} {i.name}"
    old = by_channel.get(key)
    if old is None or old.bytes * old.times < found.bytes * found.times:
      by_channel[key] = found
  return list(by_channel.values())


def _collective(
  i: Instruction, kind: str, devices: int, times: int, loop: str
) -> Collective:
  size = _group(i.text, devices)
  # Without the flags of a pending exchange, which are single numbers.
  parts = [array for array in i.arrays if array.shape] or list(i.arrays)
  total = lambda arrays: sum(array.bytes for array in arrays)
  # A start gives its operands and then its results; sums give results alone.
  if i.op.endswith("-start") and kind != "all-reduce" and len(parts) > 1:
    half = len(parts) // 2
    whole = max(total(parts[:half]), total(parts[half:]))
  else:
    whole = total(parts) * (size if kind == "reduce-scatter" else 1)
  source = re.search(r'op_name="([^"]*)"', i.text)
  return Collective(
    kind,
    parts[0].dtype if parts else "",
    size,
    whole,
    whole * _share(kind, size),
    times,
    loop,
    source[1] if source else "",
  )


def _share(kind: str, size: int) -> float:
  """What a device of a ring sends, as a share of the whole array."""
  if kind in ("collective-permute", "collective-broadcast"):
    return 1.0
  return (2 if kind == "all-reduce" else 1) * (size - 1) / size


def _group(text: str, devices: int) -> int:
  """Number of devices that take part together."""
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
  if listed:
    return len(listed[1].split(","))
  counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", text)
  return int(counted[2]) if counted else devices


class Row(NamedTuple):
  """Collectives of one kind and dtype.

  Attributes:
    kind: one of KINDS.
    dtype: dtype of what is sent.
    sites: places in the program.
    times: how often they run, together.
    bytes: bytes of all runs on a device.
    sent: bytes that a device sends in all runs.
  """

  kind: str
  dtype: str
  sites: int
  times: int
  bytes: int
  sent: float


def summed(found: Sequence[Collective]) -> list[Row]:
  """Rows of kind and dtype, those that send most first."""
  rows: dict[tuple[str, str], Row] = {}
  for c in found:
    old = rows.get((c.kind, c.dtype), Row(c.kind, c.dtype, 0, 0, 0, 0.0))
    rows[c.kind, c.dtype] = Row(
      c.kind,
      c.dtype,
      old.sites + 1,
      old.times + c.times,
      old.bytes + c.times * c.bytes,
      old.sent + c.times * c.sent,
    )
  return sorted(rows.values(), key=lambda row: -row.sent)
