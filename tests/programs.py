"""Reads compiled programs: their arrays, and exchanges between devices."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

_EXCHANGE = re.compile(
  r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute"
  r"|reduce-scatter|collective-broadcast)(?:-start)?\("
)
_SHAPE = re.compile(r"\b(?:pred|[a-z]+\d\w*)\[([\d,]*)\]")


class Exchange(NamedTuple):
  """An exchange between devices.

  Attributes:
    loop: whether it is in a loop.
    kind: the operation's name in HLO.
    size: elements of the largest array that comes out of it, on each device.
    source: where the program's text says that it comes from; "" for nowhere.
  """

  loop: bool
  kind: str
  size: int
  source: str


def traced(function: Callable) -> tuple[Callable, list[None]]:
  """The function, and a list that grows by one whenever it is traced.

  Python runs a jitted function each time that jax compiles it for new shapes.
  jax's own count of cached calls may miss some, late in a long process.
  """
  times: list[None] = []

  def counted(*args, **kwargs):
    times.append(None)
    return function(*args, **kwargs)

  return counted, times


def shapes(text: str) -> list[tuple[int, ...]]:
  """Shapes on each device of all arrays that a piece of HLO names."""
  return [
    tuple(map(int, dims.split(","))) if dims else ()
    for dims in _SHAPE.findall(text)
  ]


def largest(text: str) -> int:
  """Elements on each device of the largest array in a program."""
  return max(math.prod(shape) for shape in shapes(text))


def exchanges(text: str) -> list[Exchange]:
  """Every exchange between devices in a program."""
  computations: dict[str, list[str]] = {}
  lines: list[str] = []
  for line in text.splitlines():
    head = re.match(r"^(?:ENTRY )?(%?[\w.\-]+) .*\{$", line)
    if head:
      lines = computations.setdefault(head[1].lstrip("%"), [])
    lines.append(line)
  called = lambda line: re.findall(
    r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)", line
  )
  todo = [
    name
    for lines in computations.values()
    for line in lines
    if re.search(r"\bwhile\(", line)
    for name in called(line)
  ]
  inside: set[str] = set()
  while todo:
    name = todo.pop()
    if name in computations and name not in inside:
      inside.add(name)
      todo += [n for line in computations[name] for n in called(line)]
  exchanges = []
  for name, lines in computations.items():
    for line in lines:
      match = _EXCHANGE.search(line)
      if match:
        source = re.search(r'op_name="([^"]*)"', line)
        exchanges.append(
          Exchange(
            name in inside,
            match[2],
            largest(match[1]),
            source[1] if source else "",
          )
        )
  return exchanges
