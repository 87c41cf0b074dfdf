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
    arguments: category -> bytes of the arguments.
    beside: category -> bytes that lie there, too, while the program runs.
    temporaries: what the peak has beside the arguments: activations, gathered
      parameters, results that take no argument's place.
    code: bytes of the program itself, which the peak doesn't count.
  """

  peak: int
  arguments: Mapping[str, int]
  beside: Mapping[str, int]
  temporaries: int
  code: int

  @property
  def total(self) -> int:
    """Everything on the device while the program runs."""
    return self.peak + sum(self.beside.values()) + self.code


class Compiled(NamedTuple):
  """A compiled program.

  Attributes:
    program: what was compiled.
    seconds: seconds of lowering and of compiling.
    memory: None if the compiler refused the program.
    needs: bytes that the compiler said the program would need; None unless it
      refused the program.
    available: bytes that the compiler said there are, if it refused.
    text: the compiled HLO; "" if there is none.
    executable: jax's compiled program; None if there is none.
  """

  program: Program
  seconds: tuple[float, float]
  memory: Memory | None
  needs: float | None = None
  available: float | None = None
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
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    lowered = program.lower()
    ready = time.perf_counter()
    try:
      with _progress(program.name, quiet):
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
      needs, available = _refused(e)
      seconds = ready - started, time.perf_counter() - ready
      return Compiled(program, seconds, None, needs, available)
  seconds = ready - started, time.perf_counter() - ready
  found = executable.memory_analysis()
  arguments = {k: shard_bytes(v) for k, v in program.arguments.items()}
  peak = found.peak_memory_in_bytes
  memory = Memory(
    peak,
    arguments,
    {k: shard_bytes(v) for k, v in program.beside.items()},
    peak - sum(arguments.values()),
    found.generated_code_size_in_bytes,
  )
  return Compiled(
    program, seconds, memory, text=executable.as_text(), executable=executable
  )


def shard_bytes(tree: Any) -> int:
  """Bytes of a tree of shapes with shardings, on one device."""

  def size(x):
    shape = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
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
