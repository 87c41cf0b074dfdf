"""Estimates the bytes that a compiled program moves from and to memory.

Every instruction reads its operands and writes its result, as far as these lie
in the device's main memory; what happens within a fusion moves nothing. Slices
and updates of slices count with the slice alone.
"""

from collections import Counter
from collections.abc import Mapping

from jalign.plan.hlo import Instruction, Module

# They give other names to what is there, or run what is counted by itself.
_NOTHING = (
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "after-all",
  "partition-id",
  "replica-id",
  "iota",
  "while",
  "conditional",
  "call",
  "async-start",
  "opt-barrier",
  "add-dependency",
  "domain",
)
_SLICES = ("dynamic-slice", "slice", "gather")
# Operations that change a part of their first operand in place, and which of
# their operands is the part's new content.
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}


def moved(module: Module) -> Counter[str]:
  """Bytes moved, by the innermost loop that moves them; "" is outside loops.

  Args:
    module: the program.
  """
  total: Counter[str] = Counter()
  names = {c: module.by_name(c) for c in module.computations}
  for visit in module.visits():
    i = visit.instruction
    if visit.fused or i.op in _NOTHING or i.op.endswith(("-done", "-update")):
      continue
    there = names[visit.computation]
    total[visit.loop] += visit.times * _bytes(module, i, there)
  return total


def _bytes(
  module: Module, i: Instruction, there: Mapping[str, Instruction]
) -> int:
  sizes = [_main(there[name]) if name in there else 0 for name in i.operands]
  result = _main(i)
  if i.op == "copy-start":
    # The result is a tuple of the copy, the original and what is kept.
    return sum(array.bytes for array in i.arrays[:2] if not array.memory)
  if i.op == "slice-start":
    # The result is a tuple of the operand, the slice and what is kept: a piece
    # of an array, which is fetched before it is needed.
    piece = i.arrays[1]
    return piece.bytes * (bool(sizes[0]) + (not piece.memory))
  if i.op.endswith("-start"):
    # The result is a tuple of the operands, the results and what is kept.
    return max(result, sum(sizes))
  if i.op in _SLICES:
    return 2 * result
  if i.op == "dynamic-update-slice":
    return 2 * sizes[1]
  if i.op == "scatter":
    return 2 * sum(sizes[2:])
  if i.op == "fusion":
    return _of_fusion(module, i, sizes, result)
  return sum(sizes) + result


def _of_fusion(module, i, sizes, result) -> int:
  inside = module.computations.get(i.called(), [])
  users: dict[str, list[Instruction]] = {}
  for inner in inside:
    for name in inner.operands:
      users.setdefault(name, []).append(inner)
  parameters = [inner for inner in inside if inner.op == "parameter"]
  order = sorted(parameters, key=lambda p: int(p.text[1:].partition(")")[0]))
  read = 0
  for size, parameter in zip(sizes, order):
    read += min(size, _read(parameter, users))
  written = result
  by_name = {inner.name: inner for inner in inside}
  for update in inside:
    # The rest of the array stays where it is.
    if update.op in _UPDATES:
      whole = sum(array.bytes for array in update.arrays)
      part = by_name.get(update.operands[_UPDATES[update.op]])
      if part is not None and whole <= written:
        written -= whole - sum(array.bytes for array in part.arrays)
  return read + written


def _read(x: Instruction, users: Mapping[str, list[Instruction]]) -> int:
  """Bytes that a fusion reads of a parameter."""
  total = 0
  whole = sum(array.bytes for array in x.arrays)
  for user in users.get(x.name, []):
    if user.op in ("bitcast", "copy", "reshape", "transpose", "convert"):
      part = _read(user, users)
    elif user.op in _SLICES and user.operands[0] == x.name:
      part = sum(array.bytes for array in user.arrays)
    elif user.op in _UPDATES and user.operands[0] == x.name:
      part = 0
    else:
      part = whole
    total = max(total, part)
  return min(total, whole)


def _main(i: Instruction) -> int:
  """Bytes of the results that lie in the device's main memory."""
  return sum(array.bytes for array in i.arrays if not array.memory)
