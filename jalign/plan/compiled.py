"""Compiles a program for devices that need not be there, and measures it."""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.plan.programs import Program

GB = 1e9


class Memory(NamedTuple):
  """Bytes of a device's memory.

  Attributes:
    peak: the most that the program needs at a time: arguments, results and
      temporaries.
    arguments: category -> bytes of the arguments. What is in two categories
      counts in the first.
    beside: category -> bytes that lie there, too, while the program runs.
    temporaries: what else the peak has: activations, gathered parameters,
      results that take no argument's place.
    made: category -> bytes of large arrays that the program makes and keeps.
    shared: bytes of arrays that are passed twice. The compiler counts them
      twice.
    host: bytes of the host's memory.
    code: bytes of the program itself, which the peak doesn't count.
  """

  peak: int
  arguments: Mapping[str, int]
  beside: Mapping[str, int]
  temporaries: int
  shared: int
  host: int
  code: int
  made: Mapping[str, int] = {}

  @property
  def total(self) -> int:
    """Everything on the device while the program runs."""
    return self.peak - self.shared + sum(self.beside.values()) + self.code


class Compiled(NamedTuple):
  """A compiled program.

  Attributes:
    program: what was compiled.
    seconds: seconds of lowering and of compiling.
    memory: None if the compiler refused the program.
    needs: bytes that the compiler said the program would need; None unless it
      refused the program.
    available: bytes that the compiler said there are, if it refused.
    beside: category -> bytes that lie on the device while the program runs.
    text: the compiled HLO; "" if there is none.
    executable: jax's compiled program; None if there is none.
  """

  program: Program
  seconds: tuple[float, float]
  memory: Memory | None
  needs: float | None = None
  available: float | None = None
  beside: Mapping[str, int] = {}
  text: str = ""
  executable: Any = None


def compile_program(
  program: Program, mesh: jax.sharding.Mesh, *, quiet: bool = False
) -> Compiled:
  """Compiles a program for the devices of a mesh.

  Args:
    program: the program.
    mesh: the mesh; its devices need not be there.
    quiet: whether to print nothing while the compiler works.
  """
  started = time.perf_counter()
  with jax.set_mesh(mesh):
    lowered = program.lower()
    ready = time.perf_counter()
    arguments = dict(program.arguments())
    own, beside = _by_category(arguments, program.beside)
    began = time.perf_counter()
    executable, needs, available = None, None, None
    try:
      with _progress(program.name, quiet):
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
      needs, available = _refused(e)
  seconds = ready - started, time.perf_counter() - began
  if executable is None:
    return Compiled(program, seconds, None, needs, available, beside)
  passed = sum(map(shard_bytes, arguments.values()))
  return Compiled(
    program,
    seconds,
    _memory(executable, mesh, own, beside, passed),
    beside=beside,
    text=executable.as_text() or "",
    executable=executable,
  )


def _memory(
  executable: Any,
  mesh: jax.sharding.Mesh,
  arguments: Mapping[str, int],
  beside: Mapping[str, int],
  passed: int,
) -> Memory:
  found = executable.memory_analysis()
  # The peak counts the host's memory, too.
  host = found.host_argument_size_in_bytes
  more = found.host_output_size_in_bytes + found.host_temp_size_in_bytes
  peak = found.peak_memory_in_bytes - host - more
  if mesh.devices.flat[0].platform == "cpu":
    # The CPU's compiler counts no temporaries in its peak.
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    peak = found.argument_size_in_bytes + found.temp_size_in_bytes + results
  return Memory(
    peak,
    arguments,
    beside,
    peak - passed,
    passed - sum(arguments.values()),
    host + more - found.host_alias_size_in_bytes,
    found.generated_code_size_in_bytes,
  )


def _by_category(*parts: Mapping[str, Any]) -> list[dict[str, int]]:
  """Bytes of each category of each of the parts, every array once."""
  seen: set[int] = set()

  def own(tree):
    leaves = [x for x in jax.tree.leaves(tree) if id(x) not in seen]
    seen.update(map(id, leaves))
    return shard_bytes(leaves)

  sizes = [{name: own(tree) for name, tree in p.items()} for p in parts]
  return [{name: size for name, size in p.items() if size} for p in sizes]


def shard_bytes(tree: Any) -> int:
  """Bytes of a tree of shapes with shardings, in one device's own memory."""

  def size(x):
    if x.sharding is None:
      return x.size * x.dtype.itemsize
    if x.sharding.memory_kind in ("pinned_host", "unpinned_host"):
      return 0
    shape = x.sharding.shard_shape(x.shape)
    return int(np.prod(shape, dtype=np.int64)) * x.dtype.itemsize

  return sum(map(size, jax.tree.leaves(tree)))


_SIZE = r"([\d.]+)([KMGT]?)"


def _refused(error: Exception) -> tuple[float, float]:
  """Bytes that a refused program needs, and bytes that there are.

  Raises the error again if it says something else.
  """
  said = re.search(
    rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)", str(error)
  )
  if said is None:
    raise error
  units = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
  number = lambda at: float(said[at]) * 1024 ** units[said[at + 1]]
  return number(1), number(3)


@contextlib.contextmanager
def _progress(name: str, quiet: bool) -> Iterator[None]:
  """Says every 30 seconds that the compiler is at work."""
  done, started = threading.Event(), time.perf_counter()

  def say():
    while not done.wait(30):
      seconds = time.perf_counter() - started
      print(
        f"compiling {name} ... {seconds:.0f} s", file=sys.stderr, flush=True
      )

  if not quiet:
    print(f"compiling {name} ...", file=sys.stderr, flush=True)
    threading.Thread(target=say, daemon=True).start()
  try:
    yield
  finally:
    done.set()
