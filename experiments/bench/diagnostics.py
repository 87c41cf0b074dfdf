"""What diagnostics cost: the last layer in every step, and the exact probe.

Contestants take turns on 8 pairs of 32 prompt tokens and 48 to 96 response
tokens, in float32: a step of DPO that watches its pairs beside one that
doesn't; and gradient products of the same pairs beside one forward and backward
pass over them.

  python -m experiments.bench.diagnostics --sizes=s --out=FILE.jsonl

Cost: 4 min on 2 idle CPU cores.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from absl import app

from experiments.bench import measure, models
from experiments.bench.train_step import RATE, pairs
from jalign import diagnostics
from jalign.logprobs import sequence_logprobs
from jalign.losses import dpo
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import PairBatch, Sequences


def _batch(vocab: int, count: int, width: int) -> PairBatch:
  tokens, prompt, lengths = pairs(vocab, count, width)
  columns = jnp.arange(width)
  mask = (columns >= prompt) & (columns < lengths[:, None])
  rows = Sequences(jnp.asarray(tokens), mask, jnp.asarray(lengths))
  return PairBatch(rows, jnp.ones(count))


def _step(objective, params, reference, batch, watch):
  optimizer = optax.adamw(RATE, weight_decay=0.0)
  update = make_update(objective, optimizer, watch=watch)
  state = [init_state(jax.tree.map(jnp.copy, params), optimizer)]

  def step():
    state[0], sums = update(state[0], batch, reference)
    return sums

  return step


def point(results, size: str, count: int, width: int, repeats: int) -> None:
  """Measures one size of model."""
  config, model, params = models.ours(size, "float32", remat="dots")
  reference = model.init(jax.random.key(1))
  batch = _batch(config.vocab_size, count, width)
  objective = make_objective(functools.partial(dpo, beta=0.1), model)
  logps = functools.partial(sequence_logprobs, model)
  rows = batch.sequences
  backward = jax.jit(jax.value_and_grad(lambda p: jnp.sum(logps(p, rows))))
  products = jax.jit(lambda p: diagnostics.gradient_products(logps, p, rows))
  watch = diagnostics.watch_pairs
  sides = {
    "step": {
      "plain": _step(objective, params, reference, batch, None),
      "watched": _step(objective, params, reference, batch, watch),
    },
    "probe": {
      "backward": lambda: backward(params),
      "products": lambda: products(params),
    },
  }
  for part, runs in sides.items():
    compiling = {name: measure.first(run) for name, run in runs.items()}
    seconds, share = measure.alternate(runs, repeats=repeats)
    medians = [measure.spread(x)[0] for x in seconds.values()]
    results.add(
      part=part,
      size=size,
      pairs=count,
      width=width,
      seconds={name: measure.spread(x) for name, x in seconds.items()},
      first={name: round(x, 2) for name, x in compiling.items()},
      ratio=round(medians[1] / medians[0], 3),
      others=share,
    )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("diagnostics", measure.OUT.value)
  smoke = measure.SMOKE.value
  count, width, repeats = (2, 16, 2) if smoke else (8, 128, 7)
  for size in ["tiny"] if smoke else measure.SIZES.value:
    point(results, size, count, width, repeats)


if __name__ == "__main__":
  app.run(main)
