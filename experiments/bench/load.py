"""Loading a checkpoint beside transformers; and LoRA beside all parameters.

A random checkpoint of Qwen3's shape, 1 GB in several files, is loaded from the
page cache by processes of their own, in turns. Measured are the seconds until
every parameter is there and has been read, and the peak of the process's memory
above its memory after the imports. transformers maps files and leaves the pages
where they are; mapped pages count for both, and `private` is the peak without
them.

Then steps of DPO are measured as in train_step.py: one of all parameters, and
one of LoRA of rank 8 on all matrices of the layers, which needs no separate
reference.

  python -m experiments.bench.load --out=FILE.jsonl

Cost: 6 min, 6 GB and 1 GB of disk on 2 idle CPU cores. Without PyTorch jalign
is measured alone.
"""

import functools
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from experiments.bench import measure, models
from experiments.bench.train_step import BETA, RATE, pairs
from jalign.losses import dpo
from jalign.models import ModelConfig, hf, transformer
from jalign.models.lora import LoraConfig
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.training.trainable import trainable
from jalign.types import PairBatch, Sequences

_ALONE = flags.DEFINE_string("alone", "", "measure only this, in this process")
_FOLDER = flags.DEFINE_string("folder", "", "checkpoint that --alone loads")

# 265 M parameters, with a head of its own.
_GIGABYTE = ModelConfig(
  vocab_size=65_536,
  hidden_size=1024,
  intermediate_size=3072,
  num_hidden_layers=10,
  num_attention_heads=16,
  num_key_value_heads=8,
  head_dim=64,
  qk_norm=True,
  tie_word_embeddings=False,
)


def memory() -> dict[str, int]:
  """This process's bytes: all resident pages, and those not of a file."""
  status = pathlib.Path("/proc/self/status").read_text()
  read = lambda key: int(status.split(key)[1].split()[0]) * 1024
  return {"peak": read("VmRSS:"), "private": read("RssAnon:")}


class Peak:
  """The most memory above that at the start, sampled every 2 ms."""

  def __enter__(self):
    self._start = memory()
    self.most = dict.fromkeys(self._start, 0)
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def _watch(self):
    while not self._done.wait(0.002):
      self._look()

  def _look(self):
    for key, now in memory().items():
      self.most[key] = max(self.most[key], now - self._start[key])

  def __exit__(self, *_):
    self._done.set()
    self._thread.join()
    self._look()


def _imported(*names):
  """Imports what transformers loads only on demand, before the clock starts."""
  import transformers

  return [getattr(transformers, name) for name in names]


def load_ours(folder):
  _imported("AutoConfig", "Qwen3Config")
  jax.block_until_ready(jnp.zeros(1))  # starts the backend before the clock
  return lambda: hf.load(folder)[1]


def load_theirs(folder):
  import torch

  auto, *_ = _imported(
    "AutoModelForCausalLM", "Qwen3Config", "Qwen3ForCausalLM"
  )

  def run():
    model = auto.from_pretrained(folder, dtype="auto")
    # Reads every page of a parameter that is still in a mapped file.
    return float(sum(p.reshape(-1)[::512].sum() for p in model.parameters()))

  torch.set_grad_enabled(False)
  return run


def step(size, settings):
  """A function that makes one update, and the bytes of its state."""
  config, model, params = models.ours(size, "float32", remat="dots")
  count, width = (2, 16) if size == "tiny" else (8, 128)
  tokens, prompt, lengths = pairs(config.vocab_size, count, width)
  columns = np.arange(width)
  mask = (columns >= prompt) & (columns < lengths[:, None])
  batch = PairBatch(
    Sequences(jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(lengths)),
    jnp.ones(count),
  )
  part = trainable(config, settings, ())
  optimizer = optax.adamw(RATE, weight_decay=0.0)
  objective = make_objective(functools.partial(dpo, beta=BETA), model)
  update = make_update(objective, optimizer, join=part.join)
  begin = functools.partial(part.start, key=jax.random.key(1))
  state = [init_state(params, optimizer, None, begin)]
  frozen = part.frozen(params)

  def run():
    state[0], sums = update(state[0], batch, params, frozen)
    return sums

  return run, sum(x.nbytes for x in jax.tree.leaves(state[0]))


_SETTINGS = {"all": LoraConfig(), "lora": LoraConfig(rank=8, alpha=16)}
_LOADS = {"jalign": load_ours, "transformers": load_theirs}


def alone(name, folder, size):
  """Measures one contestant in this process."""
  if name in _LOADS:
    run = _LOADS[name](folder)
    with Peak() as peak:
      seconds = measure.first(run)
  else:
    with Peak() as peak:
      run, _ = step(size, _SETTINGS[name])
      for _ in range(3):
        seconds = measure.first(run)
  return {"seconds": seconds} | peak.most


def apart(name, folder=""):
  """Runs `alone` in a process of its own."""
  command = [sys.executable, "-m", "experiments.bench.load", f"--alone={name}"]
  smoke = ["--smoke"] if measure.SMOKE.value else []
  run = subprocess.run(
    [*command, f"--folder={folder}", *smoke],
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(run.stdout.splitlines()[-1])


def loading(results, config, repeats):
  names = ["jalign"]
  if importlib.util.find_spec("torch"):
    names.append("transformers")
  with tempfile.TemporaryDirectory() as place:
    params = jax.jit(transformer(config).init)(jax.random.key(0))
    folder = f"{place}/checkpoint"
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    hf.save(params, config, folder, shard_bytes=size // 4)
    del params
    largest = 4 * config.vocab_size * config.hidden_size
    timings: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(repeats + 1):  # the first round reads the disk
      for name in names:
        timings[name].append(apart(name, folder))
  record = {
    "bytes": size,
    "largest_tensor": largest,
    "seconds": {
      name: measure.spread([x["seconds"] for x in runs[1:]])
      for name, runs in timings.items()
    },
  }
  for key in ("peak", "private"):
    record[key] = {
      name: measure.spread([x[key] for x in runs[1:]])
      for name, runs in timings.items()
    }
  above = record["private"]["jalign"][0] - size
  record["above_in_largest_tensors"] = round(above / largest, 3)
  if "transformers" in names:
    for key, name in (("seconds", "time_ratio"), ("peak", "memory_ratio")):
      ours, theirs = (record[key][n][0] for n in names)
      record[name] = round(ours / theirs, 3)
  results.add(part="load", **record)


def training(results, size, repeats):
  made = {name: step(size, settings) for name, settings in _SETTINGS.items()}
  runs = {name: run for name, (run, _) in made.items()}
  for run in runs.values():
    measure.first(run)
  seconds, share = measure.alternate(runs, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  state = {name: size for name, (_, size) in made.items()}
  del made, runs
  peak = {name: apart(name)["private"] for name in _SETTINGS}
  results.add(
    part="lora",
    size=size,
    dtype="float32",
    rank=_SETTINGS["lora"].rank,
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    state_bytes=state,
    peak=peak,
    others=share,
    time_ratio=round(middle["lora"] / middle["all"], 3),
    memory_ratio=round(peak["lora"] / peak["all"], 3),
  )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  smoke = measure.SMOKE.value
  size = "tiny" if smoke else "s"
  if _ALONE.value:
    print(json.dumps(alone(_ALONE.value, _FOLDER.value, size)))
    return
  results = measure.Results("load", measure.OUT.value)
  training(results, size, 2 if smoke else 5)
  loading(
    results, models.SIZES["tiny"] if smoke else _GIGABYTE, 1 if smoke else 3
  )


if __name__ == "__main__":
  app.run(main)
