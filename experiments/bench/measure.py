"""How the benchmarks measure: contestants in turns, and the cores' load.

The contestants of a point run in one process and alternate (A B A B ...). What
counts is the median of a contestant's times, and the ratio of two medians. The
share of the cores that other processes used meanwhile is in every record, and a
point with a share above `BUSY` is measured again, up to `TRIES` times: when one
of their cores is taken, PyTorch's threads lose most of their speed, and XLA's
only that core's part, so a busy machine would flatter jalign.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

# One definition of flags for all benchmarks, as a process can import several.
OUT = flags.DEFINE_string("out", "", "file that JSON lines are appended to")
SMOKE = flags.DEFINE_bool("smoke", False, "tiny sizes: does it run?")
SIZES = flags.DEFINE_list("sizes", ["s", "m"], "names in models.SIZES")
DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "weights' types")
BATCHES = flags.DEFINE_list("batches", ["1", "8", "32"], "numbers of rows")

BUSY, TRIES = 0.05, 3
_PACKAGES = ("jax", "jaxlib", "torch", "transformers", "trl", "google-tunix")


def jiffies(pids: Sequence[int] = ()) -> tuple[int, int] | None:
  """(busy time of all cores, our processes' time) in ticks; None without /proc.

  Args:
    pids: our processes besides this one.
  """
  own = 0
  try:
    busy = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    for pid in (os.getpid(), *pids):
      fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1]
      own += sum(map(int, fields.split()[11:13]))
  except OSError:
    return None
  ticks = [int(x) for x in busy]
  return sum(ticks) - ticks[3] - ticks[4], own


def others(before, after, seconds: float) -> float | None:
  """Share of the cores that other processes used; None if unknown."""
  if before is None or after is None or seconds < 0.5:  # ticks are 10 ms
    return None
  ticks = (after[0] - before[0]) - (after[1] - before[1])
  capacity = seconds * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
  return round(max(ticks, 0) / capacity, 3)


def surroundings() -> dict[str, Any]:
  """Device, versions and commit of a run."""
  versions = {}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  git = subprocess.run(
    ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
  )
  return {
    "device": jax.devices()[0].device_kind,
    "processor": _processor(),
    "cores": os.cpu_count(),
    "python": platform.python_version(),
    "versions": versions,
    "commit": git.stdout.strip(),
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
  }


def _processor() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  names = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
  return names[0] if names else platform.machine()


def first(run: Callable[[], Any]) -> float:
  """Seconds of the first call: compiling, or warming up, and one run."""
  begin = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - begin


def alternate(
  contestants: Mapping[str, Callable[[], Any]],
  *,
  repeats: int = 5,
  pids: Sequence[int] = (),
) -> tuple[dict[str, list[float]], float | None]:
  """Times each contestant, in turns.

  Args:
    contestants: name -> function to time, which is warm already.
    repeats: runs of each contestant.
    pids: processes besides this one in which contestants run.

  Returns:
    Name -> seconds, and the share of the cores that other processes used.
  """
  best: tuple[dict[str, list[float]], float | None] | None = None
  for _ in range(TRIES):
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    before, start = jiffies(pids), time.perf_counter()
    for _ in range(repeats):
      for name, run in contestants.items():
        time.sleep(0.05)  # the previous run's threads stop spinning
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds[name].append(time.perf_counter() - begin)
    share = others(before, jiffies(pids), time.perf_counter() - start)
    if best is None or (share or 0) < (best[1] or 0):
      best = seconds, share
    if (share or 0) <= BUSY:
      break
  assert best is not None
  return best


def spread(seconds: list[float]) -> list[float]:
  """[median, smallest, largest], rounded to four digits."""
  values = statistics.median(seconds), min(seconds), max(seconds)
  return [float(f"{x:.4g}") for x in values]


def floors(megabytes: int = 400, width: int = 2048) -> dict[str, float]:
  """The device's GB/s of reading, and GFLOP/s of matrix products."""
  big = jnp.ones(megabytes * 2**18, jnp.float32)
  total = jax.jit(jnp.sum)
  seconds, _ = alternate({"read": lambda: total(big)}, repeats=5)
  rates = {"read_gb_s": big.nbytes / min(seconds["read"][1:]) / 1e9}
  for dtype in (jnp.float32, jnp.bfloat16):
    a = jnp.ones((width, width), dtype)
    dot = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    seconds, _ = alternate({"dot": lambda a=a, dot=dot: dot(a)}, repeats=5)
    name = f"gemm_{jnp.dtype(dtype).name}_gflop_s"
    rates[name] = 2 * width**3 / min(seconds["dot"][1:]) / 1e9
  return {name: round(value, 1) for name, value in rates.items()}


class Results:
  """JSON lines of a run, printed and appended to a file."""

  def __init__(self, benchmark: str, out: str):
    self._fixed = {"benchmark": benchmark} | surroundings()
    self._out = pathlib.Path(out) if out else None
    if self._out:
      self._out.parent.mkdir(parents=True, exist_ok=True)

  def add(self, **fields: Any) -> None:
    """Writes one line."""
    line = json.dumps(self._fixed | fields)
    print(line, flush=True)
    if self._out:
      with self._out.open("a") as file:
        file.write(line + "\n")
