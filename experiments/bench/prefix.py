"""What packing and shared prefixes save in a DPO step.

An epoch of the same pairs is run in four ways: chosen and rejected in separate
rows, in buckets of lengths; prompt, chosen and rejected in one row; rows that
several sequences share; and both of these. The learning rate is 0, so all four
must give the same loss, which is checked before anything is timed. Epochs
alternate in one process, and the medians count. Compilation and the host's work
are reported separately.

  python -m experiments.bench.prefix --data=FILE/hh_harmless_base_test.jsonl.gz

Without --data the lengths are made up, and the printed line says so.

Cost: 4 min and 2 GB on 2 CPU cores.
"""

import functools
import json
import os
import platform
import statistics
import sys
import time
from typing import Any

import jax
import jaxlib
import numpy as np
import optax
from absl import app, flags

from jalign import data, losses
from jalign.models import ModelConfig, transformer
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update

_DATA = flags.DEFINE_string("data", "", "hh-rlhf transcripts; '' makes them up")
_PAIRS = flags.DEFINE_integer(
  "pairs", 128, "pairs drawn; whole batches of them are used", lower_bound=1
)
_BATCH = flags.DEFINE_integer("batch", 16, "pairs of a step", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 512, "tokens of a shared row")
_REPEATS = flags.DEFINE_integer(
  "repeats", 3, "epochs of each way", lower_bound=1
)
_HIDDEN = flags.DEFINE_integer("hidden", 192, "width of the model")
_LAYERS = flags.DEFINE_integer(
  "layers", 4, "layers of the model", lower_bound=1
)
_VOCABULARY = flags.DEFINE_integer(
  "vocabulary", 4096, "tokens of the vocabulary", lower_bound=512
)
BUCKETS = (128, 256, 512)
LIMITS = data.Limits(max_tokens=512, max_prompt_tokens=384)


def hh_pairs(path: str, count: int) -> list[data.EncodedPair]:
  """Pairs drawn from a file, tokenised by a BPE trained on the whole file."""
  records, _ = data.read("hh", path)
  texts = (r.prompt + r.chosen + r.rejected for r in records)
  tokenizer = data.train_bpe(texts, _VOCABULARY.value)
  drawn = np.random.default_rng(0).choice(len(records), count, replace=False)
  return data.encode_pairs([records[i] for i in drawn], tokenizer, LIMITS)[0]


def made_up_pairs(count: int) -> list[data.EncodedPair]:
  """Pairs of random tokens; lengths are log-normal, about like hh-rlhf's."""
  rng = np.random.default_rng(0)

  def ids(median, spread, most):
    size = np.clip(rng.lognormal(np.log(median), spread), 4, most)
    return rng.integers(1, _VOCABULARY.value, int(size)).astype(np.int32)

  return [
    data.EncodedPair(
      ids(90, 0.8, 384), ids(45, 0.8, 128), ids(45, 0.8, 128), f"made up:{i}"
    )
    for i in range(count)
  ]


def whole_batches(pairs: list[data.EncodedPair]) -> list[data.EncodedPair]:
  """Those pairs that fill whole batches of each bucket, shuffled.

  So no batch has rows of weight 0, which packing would leave out.
  """
  bucket = np.searchsorted(BUCKETS, [data.pair_length(p) for p in pairs])
  selection: list[data.EncodedPair] = []
  for number in range(len(BUCKETS)):
    members = [p for p, b in zip(pairs, bucket) if b == number]
    selection += members[: len(members) // _BATCH.value * _BATCH.value]
  order = np.random.default_rng(1).permutation(len(selection))
  return [selection[i] for i in order]


def epoch(pairs, packing: data.Packing | None) -> tuple[list[Any], float]:
  """An epoch's batches, and the host's seconds for one of them."""
  shared = packing is not None and packing.width
  buckets = BUCKETS[-1:] if shared else BUCKETS
  plan = data.plan([data.pair_length(p) for p in pairs], _BATCH.value, buckets)
  collate = data.collate_pairs
  if packing is not None:
    collate = packing.collate(collate)
  start = time.perf_counter()
  batches = [
    collate([pairs[i] for i in batch.examples], _BATCH.value, batch.length)
    for batch in plan
  ]
  return batches, (time.perf_counter() - start) / len(batches)


def slots(batch) -> int:
  """Number of tokens that the model reads, padding included."""
  packed = batch.sequences.packed
  return (batch.sequences if packed is None else packed).tokens.size


def main(_):
  draw = made_up_pairs
  if _DATA.value:
    draw = functools.partial(hh_pairs, _DATA.value)
  pairs = whole_batches(draw(_PAIRS.value))
  count = len(pairs)
  model = transformer(
    ModelConfig(
      vocab_size=_VOCABULARY.value,
      hidden_size=_HIDDEN.value,
      intermediate_size=3 * _HIDDEN.value,
      num_hidden_layers=_LAYERS.value,
      num_attention_heads=_HIDDEN.value // 64,
      num_key_value_heads=_HIDDEN.value // 64,
      qk_norm=True,
    )
  )
  reference = model.init(jax.random.key(1))
  objective = make_objective(functools.partial(losses.dpo, beta=0.1), model)
  optimizer = optax.adamw(0.0)
  update = make_update(objective, optimizer)
  state = init_state(model.init(jax.random.key(0)), optimizer)

  def run(batches):
    """Runs an epoch: its seconds, and the sum of its losses."""
    nonlocal state
    start, total = time.perf_counter(), 0.0
    for batch in batches:
      state, sums = update(state, batch, reference)
      total += float(sums["loss"][0])
    return time.perf_counter() - start, total

  ways = {
    "rows": None,
    "shared": data.Packing(share_prefix=True),
    "packed": data.Packing(width=_WIDTH.value),
    "packed_shared": data.Packing(width=_WIDTH.value, share_prefix=True),
  }
  epochs, records = {}, {}
  for name, packing in ways.items():
    batches, host = epoch(pairs, packing)
    epochs[name] = jax.device_put(batches)
    compile_seconds, total = run(epochs[name])
    records[name] = {
      "loss": total / count,
      "steps": len(batches),
      "slots": sum(map(slots, batches)),
      "tokens": sum(int(b.sequences.lengths.sum()) for b in batches)
      if packing is None
      else data.packing_report(batches).tokens,
      "shapes": len({slots(b) for b in batches}),
      "host_ms_per_step": 1e3 * host,
      "first_epoch_seconds": compile_seconds,
    }
  want = records["rows"]["loss"]
  for name, row in records.items():
    np.testing.assert_allclose(row["loss"], want, rtol=1e-5, err_msg=name)
    print(f"{name}: {row}", file=sys.stderr, flush=True)
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  for _ in range(_REPEATS.value):
    for name in ways:
      seconds[name].append(run(epochs[name])[0] / count)
  for name, times in seconds.items():
    plain = statistics.median(seconds["rows"])
    records[name] |= {
      "ms_per_pair": 1e3 * statistics.median(times),
      "range": [1e3 * min(times), 1e3 * max(times)],
      "speedup": plain / statistics.median(times),
    }
  print(
    json.dumps(
      {
        "benchmark": "prefix",
        "data": os.path.basename(_DATA.value) or "made-up lengths",
        "pairs": count,
        "batch": _BATCH.value,
        "width": _WIDTH.value,
        "parameters": sum(x.size for x in jax.tree.leaves(reference)),
        "vocabulary": _VOCABULARY.value,
        "ways": records,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
      }
    )
  )


if __name__ == "__main__":
  app.run(main)
