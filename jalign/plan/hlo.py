"""Reads the text of compiled programs: computations, instructions, loops.

The text is that of XLA's `HloModule.to_string`, for CPUs, GPUs and TPUs. TPUs
don't say how often a loop runs: the number is read from the loop's condition.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_BITS = {
  "pred": 8,
  **{f"{kind}{bits}": bits for kind in "su" for bits in (2, 4, 8, 16, 32, 64)},
  "bf16": 16,
  "f16": 16,
  "f32": 32,
  "f64": 64,
  "c64": 64,
  "c128": 128,
}
_ARRAY = re.compile(r"\b(pred|bf16|f8\w*|[sufc]\d+)\[([\d,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:to_apply|calls)=%?([\w.\-]+)")


class Array(NamedTuple):
  """An array's type.

  Attributes:
    dtype: "bf16", "f32" and so on.
    shape: sizes.
    memory: 0 for the device's main memory, other numbers for a core's own
      memory or the host's.
  """

  dtype: str
  shape: tuple[int, ...]
  memory: int

  @property
  def bytes(self) -> int:
    """Bytes of the array, without padding."""
    size = 8 if self.dtype.startswith("f8") else _BITS.get(self.dtype, 0)
    for n in self.shape:
      size *= n
    return -(-size // 8)


class Instruction(NamedTuple):
  """An instruction.

  Attributes:
    name: its name, unique in the module.
    op: what it does, "all-gather" for example.
    arrays: types of its results.
    operands: names of its operands.
    text: the rest of the line: attributes.
    root: whether it gives the computation's result.
  """

  name: str
  op: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  text: str
  root: bool

  def called(self) -> str:
    """The computation that a fusion or a call runs; "" if there is none."""
    found = _CALLED.search(self.text)
    return found[1] if found else ""


class Visit(NamedTuple):
  """An instruction on the way through a program.

  Attributes:
    instruction: the instruction.
    computation: name of its computation.
    times: how often it runs.
    fused: whether it is part of a fusion.
    loop: name of the innermost loop around it; "" if there is none.
  """

  instruction: Instruction
  computation: str
  times: int
  fused: bool
  loop: str


class Module:
  """A program's computations.

  Args:
    text: the program's text.
    unknown_trips: how often loops run whose condition depends on data.
  """

  def __init__(self, text: str, unknown_trips: int = 1):
    self.computations, self.entry = _read(text)
    self.unknown_trips = unknown_trips
    self._weights: dict[str, float] = {}

  def by_name(self, computation: str) -> Mapping[str, Instruction]:
    """Name -> instruction of a computation."""
    return {i.name: i for i in self.computations.get(computation, ())}

  def trips(self, loop: Instruction, computation: str) -> int | None:
    """How often a loop runs; None if that depends on data.

    Args:
      loop: a `while`.
      computation: the computation that it is in.
    """
    known = re.search(r'known_trip_count"?:\s*\{"n":"?(\d+)', loop.text)
    if known:
      return int(known[1])
    return self._bound(loop, computation)

  def _bound(self, loop, computation) -> int | None:
    """The constant that a counter is compared with, less its first value."""
    condition = re.search(r"condition=%?([\w.\-]+)", loop.text)
    if condition is None:
      return None
    inside = self.by_name(condition[1])
    root = next((i for i in inside.values() if i.root), None)
    operands = list(root.operands) if root else []
    if root is not None and root.op == "fusion":
      fused = self.computations.get(root.called(), ())
      names = {i.name: operands[_index(i)] for i in fused if _is_parameter(i)}
      root = next((i for i in fused if i.root), None)
      operands = [names.get(o, o) for o in root.operands] if root else []
      inside = {**{i.name: i for i in fused}, **inside}
    if root is None or root.op != "compare" or "direction=LT" not in root.text:
      return None
    sides = [inside.get(name) for name in operands]
    limits = [_constant(side) for side in sides]
    counter, limit = sides[0], limits[1]
    if counter is None or limit is None:
      return None
    return limit - (self._first(loop, computation, counter) or 0)

  def _first(self, loop, computation, counter) -> int | None:
    """The first value of the counter that a condition reads."""
    at = re.search(r"index=(\d+)", counter.text)
    there = self.by_name(computation)
    start = there.get(loop.operands[0]) if loop.operands else None
    if at is None or start is None or start.op != "tuple":
      return None
    value = there.get(start.operands[int(at[1])])
    while value is not None and value.op in ("copy", "bitcast", "convert"):
      value = there.get(value.operands[0])
    return _constant(value)

  def visits(self, computation: str = "") -> Iterator[Visit]:
    """All instructions in the order of execution, bodies after their callers.

    Of a conditional, only the branch that moves most bytes is visited.

    Args:
      computation: where to begin; the entry by default.
    """
    yield from self._visits(computation or self.entry, 1, False, "")

  def _visits(self, computation, times, fused, loop) -> Iterator[Visit]:
    for i in self.computations.get(computation, ()):
      yield Visit(i, computation, times, fused, loop)
      if i.op == "while":
        body, count = _body(i), self.trips(i, computation)
        count = self.unknown_trips if count is None else count
        yield from self._visits(body, times * count, fused, i.name)
      elif i.op == "conditional":
        branch = max(_branches(i), key=self._weight, default="")
        yield from self._visits(branch, times, fused, loop)
      elif i.op in ("call", "async-start", "fusion") and i.called():
        inside = fused or i.op == "fusion"
        yield from self._visits(i.called(), times, inside, loop)

  def _weight(self, computation: str) -> float:
    """Bytes of all results of a computation, with what it calls."""
    if computation not in self._weights:
      self._weights[computation] = sum(
        visit.times * sum(a.bytes for a in visit.instruction.arrays)
        for visit in self._visits(computation, 1, False, "")
        if not visit.fused
      )
    return self._weights[computation]


def _read(text: str) -> tuple[dict[str, list[Instruction]], str]:
  computations: dict[str, list[Instruction]] = {}
  entry, inside = "", None
  for line in text.splitlines():
    head = None if line.startswith(" ") else _HEAD.match(line)
    if head:
      inside = computations.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
    elif line.rstrip() == "}":
      inside = None
    elif inside is not None:
      found = _LINE.match(line)
      if found:
        inside.append(_instruction(found[2], found[3], bool(found[1])))
  return computations, entry


def _instruction(name: str, text: str, root: bool) -> Instruction:
  kind, text = _until_space(text)
  found = re.match(r"([\w\-]+)\(", text)
  op = found[1] if found else ""
  end = _closing(text, len(op)) if found else 0
  inner = text[len(op) + 1 : end]
  operands = tuple(_NAME.findall(inner))
  rest = text[end + 1 :]
  if op in ("constant", "parameter"):
    rest = f"({inner}){rest}"
  arrays = tuple(
    Array(
      dtype,
      tuple(int(n) for n in shape.split(",") if n),
      _memory(layout or ""),
    )
    for dtype, shape, layout in _ARRAY.findall(kind)
  )
  return Instruction(name, op, arrays, operands, rest, root)


def _until_space(text: str) -> tuple[str, str]:
  """Divides "TYPE op(...)" into its type and the rest."""
  end = _closing(text, 0) + 1 if text.startswith("(") else text.find(" ")
  return text[:end], text[end:].lstrip()


def _closing(text: str, start: int) -> int:
  """Place of the bracket that closes the one at `start`."""
  depth = 0
  for at in range(start, len(text)):
    depth += (text[at] == "(") - (text[at] == ")")
    if not depth:
      return at
  return len(text)


def _memory(layout: str) -> int:
  found = re.search(r"S\((\d+)\)", layout)
  return int(found[1]) if found else 0


def _is_parameter(i: Instruction) -> bool:
  return i.op == "parameter"


def _index(parameter: Instruction) -> int:
  return int(re.match(r"\((\d+)", parameter.text)[1])  # type: ignore[index]


def _constant(i: Instruction | None) -> int | None:
  found = re.match(r"\((-?\d+)\)", i.text) if i and i.op == "constant" else None
  return int(found[1]) if found else None


def _body(loop: Instruction) -> str:
  found = re.search(r"body=%?([\w.\-]+)", loop.text)
  return found[1] if found else ""


def _branches(i: Instruction) -> Sequence[str]:
  listed = re.search(r"branch_computations=\{([^}]*)\}", i.text)
  if listed:
    return [name.strip().lstrip("%") for name in listed[1].split(",")]
  return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", i.text)
