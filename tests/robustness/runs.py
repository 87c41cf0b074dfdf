"""Runs in processes of their own, and comparisons of them."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import CONFIG, pairs

ROOT = pathlib.Path(__file__).resolve().parents[2]
REWARD = """
def reward(prompt, response):
  return float(response.count("e")) + len(response) / 100
"""


class Runs:
  """A folder with data and configs."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in pairs()))
    (folder / "reward.py").write_text(REWARD)
    text = CONFIG.format(path=str(data))
    (folder / "offline.py").write_text(text)
    sweep = '  c.sweep = (("loss.beta", (0.1, 0.5)),)\n  return c'
    (folder / "sweep.py").write_text(text.replace("  return c", sweep))
    text = text.replace('("sft", "align")', '("align",)')
    lines = [line for line in text.splitlines() if "c.sft" not in line]
    (folder / "online.py").write_text("\n".join(lines) + "\n")
    self._whole: dict[str, pathlib.Path] = {}
    self._seconds: dict[str, float] = {}

  def command(self, mode: str, name: str) -> list[str]:
    """Arguments of `jalign`, with every feature that keeps files."""
    flags = [
      f"--config={self.folder / mode}.py",
      f"--workdir={self.folder / name}",
      "--config.steps=6",
      "--config.eval_every=1",
    ]
    if mode in ("offline", "sweep"):
      flags += ["--config.select=eval/loss", "--config.reference=precompute"]
    else:
      reward = f"{self.folder / 'reward.py'}:reward"
      flags += ["--config.algorithm=online_dpo", "--config.max_new_tokens=4"]
      flags += [f"--config.annotator.function={reward}"]
      flags += ["--config.select=samples/win_rate", "--config.select_mode=max"]
    return ["train", *flags]

  def start(self, *arguments: str, **options) -> subprocess.Popen:
    """Starts `python -m` with the given arguments, on one device."""
    environment = os.environ | {
      # One device and little optimising, as compiling is most of a tiny run.
      "XLA_FLAGS": os.environ["XLA_FLAGS"]
      + " --xla_force_host_platform_device_count=1"
      " --xla_backend_optimization_level=0"
      " --xla_llvm_disable_expensive_passes=true",
      # Not shared with other tests: a killed process may leave half a program.
      "JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"]
      + "/runs",
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
      "PYTHONPATH": str(ROOT),
      "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
      [sys.executable, "-m", *arguments],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      **options,
    )

  def train(self, mode: str, name: str) -> str:
    """Trains to the end with the plain command; returns what was printed."""
    process = self.start("jalign", *self.command(mode, name))
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return said

  def drive(self, point: dict, mode: str, name: str) -> tuple[int, str]:
    """Trains with a point installed; returns the exit status and the text."""
    process = self.start(
      "tests.robustness.driver", json.dumps(point), *self.command(mode, name)
    )
    said, _ = process.communicate(timeout=900)
    return process.returncode, said

  def whole(self, mode: str) -> pathlib.Path:
    """The folder of an uninterrupted run."""
    if mode not in self._whole:
      name = f"whole-{mode}"
      count = {"target": "files", "about": str(self.folder / name), "call": 0}
      code, said = self.drive(count, mode, name)
      assert code == 0, said
      self._whole[mode] = self.folder / name
    return self._whole[mode]

  def operations(self, mode: str) -> int:
    """Number of file operations in the folder of an uninterrupted run."""
    path = self.whole(mode)
    return int(path.with_name(path.name + ".operations").read_text())

  def seconds(self, mode: str) -> float:
    """Wall time in seconds of a run with compiled programs."""
    self.whole(mode)
    if mode not in self._seconds:
      started = time.perf_counter()
      self.train(mode, f"timed-{mode}")
      self._seconds[mode] = time.perf_counter() - started
    return self._seconds[mode]


def arrays(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
  """Every array of a checkpoint, on the host."""
  leaves = {}
  for item in ("params", "optimizer"):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      tree = reader.metadata(checkpoint / item).item_metadata.tree
      hosted = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
      got = reader.restore(
        checkpoint / item, args=ocp.args.PyTreeRestore(restore_args=hosted)
      )
    for path, value in jax.tree_util.tree_leaves_with_path(got):
      leaves[item + jax.tree_util.keystr(path)] = value
  return leaves


def check_equal(whole: pathlib.Path, cut: pathlib.Path) -> None:
  """Asserts that two runs left the same files, to the bit, except for times."""
  checkpoints = _checkpoints(whole)
  assert checkpoints == _checkpoints(cut)
  assert len(checkpoints) > 2
  for name in checkpoints:
    a, b = arrays(whole / name), arrays(cut / name)
    assert a.keys() == b.keys() and len(a) > 20
    for path in a:
      assert a[path].tobytes() == b[path].tobytes(), (name, path)
    assert _json(whole / name / "data") == _json(cut / name / "data"), name
  for rows in sorted(whole.glob("*/metrics.jsonl")):
    mine = cut / rows.relative_to(whole)
    assert _without_clocks(rows) == _without_clocks(mine)
    steps = [row["step"] for row in read_jsonl(mine) if "train/loss" in row]
    assert steps == list(range(1, len(steps) + 1))
  for pattern in ("*/results.json", "tokenizer/*", "data.json"):
    for path in whole.glob(pattern):
      mine = cut / path.relative_to(whole)
      assert mine.read_bytes() == path.read_bytes(), mine
  assert (cut / "report.md").is_file()
  marks = (".jalign-", "-tmp")
  left = [p for p in cut.rglob("*") if any(mark in p.name for mark in marks)]
  assert not left and not (cut / "lock").exists()


def _checkpoints(run: pathlib.Path) -> list[str]:
  return sorted(
    str(path.relative_to(run))
    for kind in ("checkpoints", "best")
    for path in run.glob(f"*/{kind}/*")
  )


def _json(item: pathlib.Path):
  return json.loads((item / "metadata").read_text())


def _without_clocks(path: pathlib.Path):
  return [
    {key: value for key, value in row.items() if not is_clock(key)}
    for row in read_jsonl(path)
  ]
