"""What the tables and the plot say of a plan's file."""

import json
import pathlib
from typing import Any, NamedTuple

FOLDER = pathlib.Path(__file__).parent / "results"


class Figures(NamedTuple):
  """A program's needs; bytes and FLOPs are those of one device.

  Attributes:
    program: what the program does, such as "update".
    fits: whether it fits.
    peak: bytes at the program's peak; None if the compiler refused it.
    needs: bytes of memory in all: the peak, the code, and all that lies beside
      the program.
    usable: bytes of memory that there are.
    seconds: seconds of compiling.
    flops: floating-point operations.
    gathered: bytes that come out of gathers: all-gather, all-to-all, and
      permutes of bfloat16, into which the TPU compiler cuts gathers of weights.
    reduced: bytes that go into sums: all-reduce, reduce-scatter, and permutes
      of float32, into which it cuts sums of gradients.
    time: seconds at least, by the published rates; None if refused.
    bound: what bounds the time: "compute", "memory" or "links".
  """

  program: str
  fits: bool
  peak: float | None
  needs: float
  usable: float
  seconds: float
  flops: float
  gathered: float
  reduced: float
  time: float | None
  bound: str


def read(name: str, folder: pathlib.Path = FOLDER) -> dict[str, Any] | None:
  """A plan's file; None if it hasn't been made."""
  path = folder / f"{name}.json"
  return json.loads(path.read_text()) if path.exists() else None


def figures(plan: dict[str, Any]) -> list[Figures]:
  """The figures of a plan's programs, in their order."""
  return [_of(program) for program in plan["programs"]]


def _of(p: dict[str, Any]) -> Figures:
  def moved(kinds, permuted):
    return sum(
      row["bytes"]
      for row in p.get("collectives", ())
      if row["kind"] in kinds
      or (row["kind"], row["dtype"]) == ("collective-permute", permuted)
    )

  times = p.get("expected_seconds", {})
  return Figures(
    program=p["name"].partition(": ")[2],
    fits=p["fits"],
    peak=p.get("peak_bytes"),
    needs=p["needs_bytes"],
    usable=p["usable_bytes"],
    seconds=p["seconds"]["compile"],
    flops=p.get("flops", 0.0),
    gathered=moved(("all-gather", "all-to-all", "ragged-all-to-all"), "bf16"),
    reduced=moved(("all-reduce", "reduce-scatter"), "f32"),
    time=times.get("at_least"),
    bound=p.get("bound", ""),
  )
