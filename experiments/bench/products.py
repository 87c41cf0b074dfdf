"""What bounds decoding on a CPU: products of a few rows with many weights.

48 matrices of 768 x 2048 are multiplied one after another, as in the layers of
the model m: 302 MB in float32, more than caches hold. They are held either as
in training, inputs first, or as in decoding, outputs first. Both take turns.
They are compared with the time that reading and computing would take at the
limits measured in the same run.

  python -m experiments.bench.products --out=FILE.jsonl

Cost: 20 s and 1 GB on 2 idle CPU cores.
"""

import functools

import jax
import jax.numpy as jnp
from absl import app

from experiments.bench import measure
from jalign.products import matmul


def point(results, floors, dtype, batch, count, shape, repeats):
  keys = jax.random.split(jax.random.key(0), count)
  weights = [jax.random.normal(key, shape, dtype) for key in keys]
  turned = [jnp.array(weight.T) for weight in weights]
  x = jnp.ones((batch, shape[0]), dtype)

  @functools.partial(jax.jit, static_argnames="transposed")
  def chain(x, weights, transposed):
    for weight in weights:  # each product needs the one before
      y = matmul(x, weight, transposed=transposed)
      x += 1e-9 * y[:, : shape[0]].astype(x.dtype)
    return x

  runs = {
    "inputs_first": lambda: chain(x, weights, transposed=False),
    "outputs_first": lambda: chain(x, turned, transposed=True),
  }
  for run in runs.values():
    measure.first(run)
  seconds, share = measure.alternate(runs, repeats=repeats)
  size = sum(weight.nbytes for weight in weights)
  read = size / floors["read_gb_s"] / 1e9
  flop = 2 * batch * shape[0] * shape[1] * count
  compute = flop / floors[f"gemm_{dtype}_gflop_s"] / 1e9
  limit = read + compute
  results.add(
    dtype=dtype,
    batch=batch,
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    beside_limits={
      name: round(measure.spread(x)[0] / limit, 3)
      for name, x in seconds.items()
    },
    floors=floors,
    others=share,
  )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("products", measure.OUT.value)
  smoke = measure.SMOKE.value
  floors = measure.floors(4, 128) if smoke else measure.floors()
  count, shape, repeats = (2, (8, 16), 2) if smoke else (48, (768, 2048), 7)
  for dtype in measure.DTYPES.value:
    for batch in map(int, measure.BATCHES.value):
      point(results, floors, dtype, batch, count, shape, repeats)


if __name__ == "__main__":
  app.run(main)
