"""Runs of the same training by one and by several processes, and comparisons.

All functions take a folder in which `prepare` has written data and config.
"""

import json
import pathlib

import numpy as np

from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import CONFIG, pairs
from tests.processes.launch import Ended, launch

# Before the first update the policy is its reference: these count the signs of
# rounding errors, where the reference was scored in other batches.
TIES = ("train/reward_accuracy",)
# Differences of log-probs of about 20 nats, each rounded to float32's spacing.
DIFFERENCES = ("log_ratio", "margin")
SPACING = 2 * float(np.spacing(np.float32(20)))


def prepare(folder: pathlib.Path, sft: bool = True) -> None:
  """Writes pairs.jsonl and config.py, with or without a stage of SFT."""
  data = folder / "pairs.jsonl"
  data.write_text("".join(json.dumps(row) + "\n" for row in pairs()))
  text = CONFIG.format(path=str(data))
  if not sft:
    text = text.replace('("sft", "align")', '("align",)')
    text = "".join(x for x in text.splitlines(True) if "c.sft" not in x)
  (folder / "config.py").write_text(text)


def command(folder: pathlib.Path, name: str, *flags: str) -> list[str]:
  """Arguments of `jalign` that train in the folder `name`."""
  return [
    "train",
    f"--config={folder / 'config.py'}",
    f"--workdir={folder / name}",
    *flags,
  ]


def train(
  folder: pathlib.Path,
  name: str,
  *flags: str,
  processes: int = 2,
  devices: int = 1,
  timeout: float = 600,
) -> list[Ended]:
  """Trains in several processes; asserts that they hold the same bits."""
  bits = folder / f"bits of {name}"
  ends = launch(
    ["tests.processes.observed", str(bits), *command(folder, name, *flags)],
    processes=processes,
    devices=devices,
    timeout=timeout,
  )
  stages = {path.name.rsplit(".", 2)[0] for path in bits.iterdir()}
  for stage in stages:
    seen: dict[str, str] = {}
    for index in range(processes):
      held = json.loads((bits / f"{stage}.{index}.json").read_text())
      for part, value in held.items():
        assert seen.setdefault(part, value) == value, (stage, index, part)
  assert stages
  return ends


def check_same(
  one: pathlib.Path, several: pathlib.Path, rtol: float = 1e-6
) -> int:
  """Asserts that two runs measured the same; returns the count of numbers.

  A number of magnitude below 1 may differ by `rtol` itself, and a difference of
  log-probs by `SPACING`.
  """
  count = 0
  paths = sorted(p.relative_to(one) for p in one.rglob("metrics.jsonl"))
  assert paths
  for path in paths:
    a, b = read_jsonl(one / path), read_jsonl(several / path)
    assert [row.keys() for row in a] == [row.keys() for row in b], path
    for x, y in zip(a, b):
      for name in (name for name in x if not is_clock(name)):
        if name in TIES and x["step"] == 1:
          continue
        where = f"{path} step {x['step']}: {name}"
        rounded = any(part in name for part in DIFFERENCES)
        np.testing.assert_allclose(
          y[name],
          x[name],
          rtol=rtol,
          atol=SPACING if rounded else rtol,
          err_msg=where,
        )
        count += 1
  files = lambda run: sorted(
    str(p.relative_to(run))
    for p in run.rglob("*")
    if p.is_file() and not {"tensorboard", "checkpoints", "best"} & {*p.parts}
  )
  assert files(one) == files(several)
  assert not (several / "lock").exists()
  return count
