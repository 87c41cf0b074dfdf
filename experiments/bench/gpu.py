"""The benchmarks of one GPU, in parts that can be resumed.

Each part runs in a process of its own, for under 8 minutes, and writes its line
when it ends. A part that has a line is skipped when the command is run again. A
part that fails or takes too long gets a line that says so, and runs again the
next time. PyTorch's parts are skipped if PyTorch isn't installed.

  python -m experiments.bench.gpu --out=FILE.jsonl [--budget=SECONDS]

Cost: about 40 parts of 1 to 4 minutes, and at most 140 GB of GPU memory (on a
smaller GPU, name the parts that fit with --begin=PREFIX,...). --smoke runs the
same code on any device in a minute or two, with tiny sizes.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from absl import app, flags

from experiments.bench import gpu_parts, gpu_torch, measure

_PART = flags.DEFINE_string("part", "", "run only this part, in this process")
_BEGIN = flags.DEFINE_list("begin", [], "run parts whose names begin so")
_BUDGET = flags.DEFINE_float("budget", 0, "seconds until no part is started")
_LIMIT = flags.DEFINE_float("limit", 470, "seconds that a part may take")

_COMMAND_BUFFERS = "--xla_gpu_enable_command_buffer="
SETTINGS = {
  "default": "",
  "off": _COMMAND_BUFFERS,
  "while": _COMMAND_BUFFERS + "+WHILE",
}
FUNCTIONS = {
  "gate": gpu_parts.gate,
  "decode": gpu_parts.decode,
  "hf": gpu_torch.hf_decode,
  "mixture": gpu_parts.mixture,
  "flags": gpu_parts.flags,
  "attention": gpu_parts.attention,
  "loop": gpu_parts.loop,
  "dpo": gpu_parts.dpo,
  "torch_dpo": gpu_torch.torch_dpo,
  "head": gpu_parts.head,
  "head_layout": gpu_parts.head_layout,
  "cache_layout": gpu_parts.cache_layout,
}
# The most important parts come first. Arguments are separated by colons.
PARTS = (
  "gate",
  "decode:0.6b:1",
  "decode:0.6b:64",
  "decode:1.7b:64",
  "decode:8b:32",
  "mixture:1.7b:64",
  "dpo:1.7b:block",
  "head:1.7b",
  "hf:0.6b:1",
  "hf:0.6b:64",
  "hf:1.7b:64",
  "hf:8b:32",
  "torch_dpo:1.7b",
  *(f"flags:0.6b:1:{name}" for name in SETTINGS),
  *(f"flags:1.7b:64:{name}" for name in SETTINGS),
  *(f"loop:0.6b:1:{chunk}" for chunk in (1, 8, 32)),
  *(f"attention:1.7b:64:{kind}" for kind in ("xla", "cudnn", "pallas")),
  "dpo:1.7b:dots",
  "dpo:1.7b:none",
  "cache_layout:64",
  "head_layout:1.7b:1",
  "head_layout:1.7b:64",
  *(f"decode:{size}:{b}" for size in ("0.6b", "1.7b") for b in (128, 256)),
  "decode:8b:64",
  "decode:8b:128",
  "hf:8b:128",
)
SMOKE_PARTS = (
  "gate",
  "decode:tiny:2",
  "mixture:tiny:2",
  "dpo:tiny:block",
  "head:tiny",
  "hf:tiny:2",
  "torch_dpo:tiny",
  *(f"flags:tiny:2:{name}" for name in SETTINGS),
  "loop:tiny:2:2",
  "attention:tiny:2:xla",
  "head_layout:tiny:2",
  "cache_layout:2",
)
_TORCH = ("hf", "torch_dpo")


def run_part(name: str) -> dict[str, Any]:
  """Measures a part in this process."""
  kind, *arguments = name.split(":")
  sizes = gpu_parts.TINY if measure.SMOKE.value else gpu_parts.Sizes()
  if kind in _TORCH and not importlib.util.find_spec("torch"):
    return {"skipped": ["torch"]}
  return FUNCTIONS[kind](sizes, *arguments)


def ended(path: str) -> dict[str, dict[str, Any]]:
  """A file's records by the names of their parts, without failed ones."""
  if not path or not pathlib.Path(path).exists():
    return {}
  lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
  return {x["name"]: x for x in lines if not ({"failed", "skipped"} & x.keys())}


def compared(name: str, record: dict[str, Any], path: str) -> dict[str, Any]:
  """The ratio of a PyTorch part to jalign's counterpart, if that has ended."""
  kind, *parts = name.split(":")
  partner = {"hf": "decode", "torch_dpo": "dpo"}.get(kind)
  mine = [
    x["seconds"]["jalign"][0]
    for other, x in ended(path).items()
    if partner
    and other.startswith(":".join([partner, *parts]))
    # The prefix decode:0.6b:1 matches decode:0.6b:128, too.
    and (partner == "dpo" or other == ":".join([partner, *parts]))
  ]
  if not mine or "seconds" not in record:
    return {}
  best = min(x[0] for x in record["seconds"].values())
  return {"ratio": round(best / min(mine), 3)}


def child(name: str) -> str | None:
  """Runs a part in a process of its own; returns what went wrong, or None."""
  kind, *arguments = name.split(":")
  environment = dict(os.environ)
  if kind == "flags":
    given = environment.get("XLA_FLAGS", "")
    environment["XLA_FLAGS"] = f"{given} {SETTINGS[arguments[-1]]}".strip()
  if kind in _TORCH:
    environment["JAX_PLATFORMS"] = "cpu"  # leaves GPU memory to PyTorch
  command = [sys.executable, "-m", "experiments.bench.gpu", f"--part={name}"]
  command += [f"--out={measure.OUT.value}"]
  command += ["--smoke"] if measure.SMOKE.value else []
  try:
    done = subprocess.run(command, env=environment, timeout=_LIMIT.value)
  except subprocess.TimeoutExpired:
    return f"took more than {_LIMIT.value:g} s"
  return f"exit status {done.returncode}" if done.returncode else None


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  path, start = measure.OUT.value, time.perf_counter()
  if _PART.value:
    record = run_part(_PART.value)
    record |= compared(_PART.value, record, path)
    kind = _PART.value.split(":")[0]
    results = measure.Results("gpu", path)
    results.add(dtype="bfloat16", **record, part=kind, name=_PART.value)
    return
  if not path:
    raise app.UsageError("--out=FILE.jsonl is needed: parts meet there")
  every = SMOKE_PARTS if measure.SMOKE.value else PARTS
  wanted = tuple(_BEGIN.value) or ("",)
  left = [x for x in every if x.startswith(wanted) and x not in ended(path)]
  for i, name in enumerate(left):
    if _BUDGET.value and time.perf_counter() - start > _BUDGET.value:
      print(f"{len(left) - i} parts are left: run the command again")
      return
    problem = child(name)
    if problem:
      line = {"benchmark": "gpu", "name": name, "failed": problem}
      print(json.dumps(line), flush=True)
      with open(path, "a") as file:
        file.write(json.dumps(line | {"part": name.split(":")[0]}) + "\n")


if __name__ == "__main__":
  app.run(main)
