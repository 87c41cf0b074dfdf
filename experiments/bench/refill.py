"""Responses of random length: rows that are refilled, and rows that wait.

Lengths are geometric and uncapped: a bias makes the end of sequence equally
likely at each token. `generate(..., slots=S)` answers Q prompts in S rows. It
is compared with batches of S rows, one after another, each of which waits for
its longest response. Both give the same tokens. `ideal` is the ratio of the two
numbers of steps: the gain if reading prompts and idle rows cost nothing.

Then K samples that share a prefill are compared with K that each have one.

  python -m experiments.bench.refill --out=FILE.jsonl

Cost: 6 min and 2 GB on 2 idle CPU cores.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.bench import measure, models
from experiments.bench.models import random_prompts
from jalign.decode import generate, sampler

_SLOTS = flags.DEFINE_list("slots", ["8", "32"], "numbers of rows")
_ADMIT = flags.DEFINE_list("admit", [""], "idle rows that read together")
_DTYPE = flags.DEFINE_string("dtype", "float32", "type of the weights")


def refill(results, size, dtype, slots, admit, mean, width, capacity, repeats):
  config, model, params = models.ours(size, dtype)
  count = 8 * slots
  prompts = random_prompts(config, count, width)
  lengths = jnp.full(count, width)
  keys = jax.random.split(jax.random.key(2), count)
  stop = 0
  # A random model's tokens are about equally likely.
  odds = (config.vocab_size - 1) / (mean - 1)
  draw = sampler(bias={stop: float(np.log(odds))})
  settings = dict(max_new_tokens=capacity, stop_ids=(stop,), draw=draw)

  def run(at, **changes):
    return generate(
      model,
      params,
      prompts[at],
      lengths[at],
      keys[at],
      **settings,
      **changes,
    )

  parts = [slice(i, i + slots) for i in range(0, count, slots)]
  waiting = lambda: [run(part) for part in parts]
  refilled = lambda: run(slice(None), slots=slots, admit=admit or None)
  want = np.concatenate(
    [np.asarray(rollout.sequences.lengths) for rollout in waiting()]
  )
  got = refilled()
  assert got.finished.all(), "a response was cut: give more columns"
  # Products of one prompt and of many round differently. Now and then a draw
  # falls between the two results, and from there on that row's tokens differ.
  apart = int((np.asarray(got.sequences.lengths) != want).sum())
  assert apart <= count // 50, f"{apart} of {count} responses differ"
  responses = want - width
  steps = sum(int(responses[part].max()) for part in parts)
  contestants = {"waiting": waiting, "refilled": refilled}
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  results.add(
    benchmark="refill",
    size=size,
    dtype=dtype,
    slots=slots,
    admit=admit,
    prompts=count,
    apart=apart,
    prompt=width,
    mean_length=round(float(responses.mean()), 1),
    longest=int(responses.max()),
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    ratio=round(middle["waiting"] / middle["refilled"], 3),
    ideal=round(steps * slots / int(responses.sum()), 3),
    others=share,
  )


def prefill(results, size, dtype, samples, width, new, repeats):
  config, model, params = models.ours(size, dtype)
  prompts = random_prompts(config, 2, width)
  lengths = jnp.full(2, width)
  keys = jax.random.split(jax.random.key(2), 2 * samples)
  copies = jnp.repeat(prompts, samples, 0), jnp.repeat(lengths, samples)
  settings = dict(max_new_tokens=new, stop_ids=())
  contestants = {
    "shared": lambda: generate(
      model, params, prompts, lengths, keys, samples=samples, **settings
    ),
    "each": lambda: generate(model, params, *copies, keys, **settings),
  }
  for run in contestants.values():
    measure.first(run)
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  results.add(
    benchmark="prefill",
    size=size,
    dtype=dtype,
    samples=samples,
    prompt=width,
    new_tokens=new,
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    ratio=round(middle["each"] / middle["shared"], 3),
    others=share,
  )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("refill", measure.OUT.value)
  if measure.SMOKE.value:
    refill(results, "tiny", _DTYPE.value, 4, None, 6, 5, 96, 1)
    prefill(results, "tiny", _DTYPE.value, 3, 8, 4, 1)
    return
  for slots in map(int, _SLOTS.value):
    for admit in _ADMIT.value:
      at = int(admit) if admit else None
      refill(results, "s", _DTYPE.value, slots, at, 64, 64, 640, 3)
  for new in (32, 128):
    prefill(results, "s", _DTYPE.value, 8, 512, new, 5)


if __name__ == "__main__":
  app.run(main)
