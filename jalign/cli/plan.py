"""`jalign plan`."""

import argparse
import os
import pathlib
import sys

from jalign.cli.config_file import read_config
from jalign.cli.parsing import Flag, Values, command, whole
from jalign.errors import UserError


def _mesh(text: str) -> tuple[int, int, int]:
  """Reads "1x64x1"; a size may be -1."""
  try:
    data, fsdp, tensor = map(int, text.split("x"))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} is not DATAxFSDPxTENSOR, such as 1x64x1."
    ) from None
  return data, fsdp, tensor


@command(
  Flag("config", "NAME[:ARG]", "as for jalign train", required=True),
  Flag(
    "topology",
    "NAME",
    "devices to plan for, such as v5e:8x8 or h200:8; local is this machine",
    "local",
  ),
  Flag(
    "mesh",
    "DATAxFSDPxTENSOR",
    "the mesh; config.mesh by default",
    read=_mesh,
  ),
  Flag(
    "programs",
    "NAMES",
    "programs to compile, as in update,rollout; all by default",
    "",
  ),
  Flag(
    "shardings",
    "",
    "only list the sharding rules, and what each parameter becomes",
  ),
  Flag(
    "search",
    "COUNT",
    "try all meshes by formula, and compile the COUNT best",
    read=whole(0),
  ),
  Flag("out", "PATH", "a file FILE.json, or a folder for plan.json", ""),
  takes_keys=True,
  hints={
    "workdir": "A plan makes no run folder; --out=PATH writes the plan as JSON."
  },
)
def plan(values: Values) -> None:
  """Says what a run needs on given devices, by compiling its programs.

  The devices need not be there: the compilers of TPUs and GPUs run on a CPU. No
  data are read and nothing is trained.

  examples:
    jalign plan --config=dpo
    jalign plan --config=dpo --topology=v5e:2x2 --mesh=1x4x1 \\
      --config.tokenizer.vocab_size=32000
    jalign plan --config=dpo --topology=v5e:4x4 --search=2
  """
  _check(values)
  from jalign.plan.compilers import set_environment
  from jalign.plan.topology import platform_of

  set_environment(platform_of(values.topology))
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours
  config = read_config(values.config, values.keys)
  if values.mesh:
    sizes = dict(zip(("data", "fsdp", "tensor"), values.mesh))
    config["mesh"] = {**config["mesh"], **sizes}

  out = pathlib.Path(values.out) if values.out else None
  if values.shardings or values.search is not None:
    from jalign.plan.meshes import find_mesh, show_shardings

    if values.shardings:
      show_shardings(config, values.topology)
    if values.search is not None:
      find_mesh(config, values.topology, values.search, out)
    return

  from jalign.plan.command import make_plan

  make_plan(
    config,
    values.topology,
    out=out,
    patterns=[name for name in values.programs.split(",") if name],
  )


def _check(values: Values) -> None:
  """Refuses flags that would change nothing."""
  searched = values.search is not None
  for flag, useless in (
    ("programs", values.shardings or searched),
    ("out", values.shardings and not searched),
    ("mesh", searched and not values.shardings),
  ):
    if getattr(values, flag) and useless:
      raise UserError(
        "changes nothing here: --shardings compiles and writes nothing, and"
        " --search tries the whole step on all meshes.",
        where=f"--{flag}",
        remedy="Leave this flag out.",
      )
