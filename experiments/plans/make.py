"""Makes the plans of the page Scale, its tables and its plot.

  python -m experiments.plans.make [NAME ...] [--core=0]
  python -m experiments.plans.make --tables

Each NAME of experiments/plans/rows.py, or a pattern such as "growth_*", is
planned by `jalign plan` on one core of the processor; the plan's JSON goes to
experiments/plans/results. The tables in docs/scale.md and the plot are then
made of all files there; `--tables` does only that. The compilers are those that
`jalign plan` asks for: libtpu, and the CUDA plugin with ptxas.
"""

import fnmatch
import json
import os
import pathlib
import shlex
import subprocess
import sys

from absl import app, flags

from experiments.plans import tables
from experiments.plans.figures import FOLDER
from experiments.plans.plot import draw
from experiments.plans.rows import ROWS, Row
from jalign.errors import UserError, nearest

_CORE = flags.DEFINE_integer("core", 0, "the core that compiles")
_TABLES = flags.DEFINE_bool("tables", False, "make only tables and plot")
_OUT = flags.DEFINE_string("out", str(FOLDER), "folder of the plans' files")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def plan(name: str, row: Row, folder: pathlib.Path, core: int) -> None:
  """Makes the plan of a row, in a process of its own.

  Args:
    name: the row's name, and that of its file.
    row: what to plan.
    folder: the folder of the plans' files.
    core: the core of the processor that compiles.
  """
  print(f"== {name}: {shlex.join(row.command)}", flush=True)
  path = folder / f"{name}.json"
  words = [sys.executable, "-m", *row.command, f"--out={path}"]
  done = subprocess.run(
    words, cwd=ROOT, preexec_fn=lambda: os.sched_setaffinity(0, {core})
  )
  if done.returncode:
    raise UserError(
      f"jalign plan ended with code {done.returncode}.", where=name
    )
  made = json.loads(path.read_text())
  # The command as it is typed, without this machine's paths.
  made["command"] = shlex.join(row.command)
  path.write_text(json.dumps(made, indent=2) + "\n")


def main(arguments: list[str]) -> None:
  """Plans the rows that are named, and makes tables and plot of all."""
  folder = pathlib.Path(_OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  for pattern in [] if _TABLES.value else arguments[1:] or ["*"]:
    names = fnmatch.filter(ROWS, pattern)
    if not names:
      raise UserError(f"no plan {pattern!r}.", remedy=nearest(pattern, ROWS))
    for name in names:
      plan(name, ROWS[name], folder, _CORE.value)
  if folder == FOLDER:
    tables.write()
    draw()


if __name__ == "__main__":
  app.run(main)
