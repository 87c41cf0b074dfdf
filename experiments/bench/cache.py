"""How a decode step should lay out keys and values, and how it writes them.

Two layouts, head-major [B, G, S, E] and slot-major [B, S, G, E], times two
writes: each row at its own position (a scatter), or all rows at the same one
(dynamic_update_slice, as with left-padded prompts). The step is the attention
of L layers in a loop that carries the caches. The four variants of a point
alternate in one process, after a check that they give the same numbers.

  python -m experiments.bench.cache --out=experiments/bench/results/cache.jsonl

Cost: 6 min and 3 GB on 2 idle CPU cores. It prints one JSON line for each
variant: microseconds a layer, as the median of the repeats and their range, and
the share of the cores that other processes used meanwhile. --smoke takes
seconds.
"""

import functools
import itertools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from experiments.bench import measure
from jalign.models.attention import NEG_INF, reference

LAYERS, H, G, E = 8, 6, 2, 64  # those of the benchmarks' 25 M model
STEPS = 50
# Activations' and cache's: XLA:CPU has no bfloat16 update, hence the third.
TYPES = (
  ("float32", "float32"),
  ("bfloat16", "bfloat16"),
  ("bfloat16", "float32"),
)
VARIANTS = tuple(
  itertools.product(("head_major", "slot_major"), ("scatter", "shared_slot"))
)


def write(cache, new, positions, layout, how):
  """Writes new [B, G, E] into a cache at positions [B], or all at the first."""
  new = new.astype(cache.dtype)
  if how == "scatter":
    rows = jnp.arange(len(positions))[:, None]
    heads = jnp.arange(G)[None]
    slots = positions[:, None]
    at = (rows, heads, slots)
    at = at if layout == "head_major" else (rows, slots, heads)
    return cache.at[at].set(new, mode="drop")
  axis = 2 if layout == "head_major" else 1
  return jax.lax.dynamic_update_slice_in_dim(
    cache, jnp.expand_dims(new, axis), positions[0], axis
  )


def attend(q, k, v, mask, layout):
  """[B, 1, H, E] queries over a cache in either layout."""
  if layout == "head_major":
    return reference(q, k, v, mask)
  grouped = q.reshape(len(q), G, H // G, E).astype(k.dtype)
  einsum = lambda *x: jnp.einsum(*x, preferred_element_type=jnp.float32)
  scores = einsum("bgre,bsge->bgrs", grouped, k) * E**-0.5
  scores = jnp.where(mask[:, :, None], scores, NEG_INF)
  weights = jax.nn.softmax(scores, -1).astype(v.dtype)
  return einsum("bgrs,bsge->bgre", weights, v).astype(q.dtype).reshape(q.shape)


def program(batch, slots, layers, steps, dtype, cache_dtype, layout, how):
  """A compiled loop of steps, and its arguments; the cache starts as noise."""

  def run(q, caches, positions):
    def step(_, carry):
      q, caches, positions = carry
      mask = jnp.arange(slots) <= positions[:, None, None]
      written = []
      for k, v in caches:
        # Stands for the layer's products, which are the same in all variants.
        new = q[:, 0, :G] * 0.5
        k = write(k, new, positions, layout, how)
        v = write(v, -new, positions, layout, how)
        q = 0.5 * q + attend(q, k, v, mask, layout)
        written.append((k, v))
      return q, tuple(written), positions + 1

    return jax.lax.fori_loop(0, steps, step, (q, caches, positions))[0]

  rng = np.random.default_rng(0)

  def noise(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  q = noise(batch, 1, H, E)
  swap = (lambda x: x) if layout == "head_major" else lambda x: x.swapaxes(1, 2)
  keys = lambda: swap(noise(batch, G, slots, E)).astype(cache_dtype)
  caches = tuple((keys(), keys()) for _ in range(layers))
  positions = jnp.full(batch, slots - steps - 1, jnp.int32)
  arguments = (q, caches, positions)
  return jax.jit(run).lower(*arguments).compile(), arguments


def records(batch, slots, dtypes, *, layers=LAYERS, steps=STEPS, repeats=7):
  """Records of a point's four variants, which are measured in turns."""
  ready, answers = {}, {}
  for variant in VARIANTS:
    compiled, arguments = program(
      batch, slots, layers, steps, *dtypes, *variant
    )
    ready[variant] = compiled, arguments
    answers[variant] = np.float32(compiled(*arguments))
  tolerance = 2e-4 if dtypes[0] == "float32" else 0.1
  for answer in answers.values():
    np.testing.assert_allclose(answer, answers[VARIANTS[0]], atol=tolerance)
  runs = {
    variant: functools.partial(compiled, *arguments)
    for variant, (compiled, arguments) in ready.items()
  }
  seconds, share = measure.alternate(runs, repeats=repeats)
  for (layout, how), times in seconds.items():
    microseconds = [t / steps / layers * 1e6 for t in times]
    yield {
      "layout": layout,
      "write": how,
      "batch": batch,
      "slots": slots,
      "dtype": dtypes[0],
      "cache_dtype": dtypes[1],
      "us_per_layer": round(statistics.median(microseconds), 2),
      "range": [round(min(microseconds), 2), round(max(microseconds), 2)],
      "repeats": repeats,
      "others": share,
    }


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  points = itertools.product(TYPES, (192, 1088), (1, 8, 32))
  sizes = dict(repeats=7)
  if measure.SMOKE.value:
    points = iter([(types, 16, 2) for types in TYPES])
    sizes = dict(layers=1, steps=2, repeats=1)
  results = measure.Results("cache", measure.OUT.value)
  for dtypes, slots, batch in points:
    for record in records(batch, slots, dtypes, **sizes):
      results.add(**record)


if __name__ == "__main__":
  app.run(main)
