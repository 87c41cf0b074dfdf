"""Log-probs: jalign's stream over the vocabulary beside full logits.

Measured are the value of a weighted sum of log-probs, and its gradients in the
hidden states and the head's weight. Full logits are what one writes by hand, in
its cheaper form: the target's logit less `logsumexp`. Both must give the same
value and gradients (float32) before anything is timed. Other contestants ask
the same pass for more: entropy alone, all statistics, and the KL to a
reference; or for less: 56 % of the tokens, about the share that counts in the
batch of `train_step`.

  python -m experiments.bench.logprobs --out=FILE.jsonl

Cost: 15 min and 6 GB on 2 idle CPU cores.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.bench import measure
from jalign import logprobs
from jalign.types import Head

_VOCABS = flags.DEFINE_list("vocabs", ["32000", "151936"], "vocabulary sizes")
_TOKENS = flags.DEFINE_integer(
  "tokens", 2048, "number of tokens, in 8 rows", lower_bound=8
)
_WIDTH = flags.DEFINE_integer(
  "width", 384, "width of the hidden states", lower_bound=1
)
_TILES = flags.DEFINE_list("tiles", [], "more tile widths to measure")
_MORE = flags.DEFINE_bool("statistics", True, "measure other statistics, too")


def full(hidden, weight, targets, given):
  z = logprobs.logits(Head(weight), hidden)
  picked = jnp.take_along_axis(z, targets[..., None], -1)[..., 0]
  return jnp.sum(given * (picked - jax.nn.logsumexp(z, -1)))


def streamed(hidden, weight, targets, given, want=(), tile=None, mask=None):
  """A sum of all wanted statistics, so that all of them have a gradient."""
  statistics = logprobs.token_statistics(
    hidden, Head(weight), targets, want=want, tile=tile, mask=mask
  )
  values = [x for x in statistics if x is not None and x.dtype == jnp.float32]
  return sum(jnp.sum(given * x) for x in values)


def divergence(hidden, weight, targets, given):
  """Log-probs and the KL from a reference, whose states are these reversed."""
  reference = hidden[::-1], Head(weight)
  kl = logprobs.token_kl(hidden, Head(weight), *reference)
  return streamed(hidden, weight, targets, given) + jnp.sum(given * kl)


def counted(hidden, weight, targets, given):
  """Log-probs of the tokens from a quarter of each row to the row's end.

  The ends are spread evenly from 5/8 of the row's length to all of it.
  """
  rows, length = targets.shape
  ends = jnp.linspace(5 * length // 8, length, rows, dtype=jnp.int32)
  at = jnp.arange(length)
  mask = (at >= length // 4) & (at < ends[:, None])
  return streamed(hidden, weight, targets, given, mask=mask)


def _arrays(vocab, dtype, tokens, width):
  keys = jax.random.split(jax.random.key(0), 4)
  shape = 8, tokens // 8
  return (
    jax.random.normal(keys[0], (*shape, width)).astype(dtype),
    (0.05 * jax.random.normal(keys[1], (vocab, width))).astype(dtype),
    jax.random.randint(keys[2], shape, 0, vocab),
    jax.random.normal(keys[3], shape),
  )


def check_equal(runs):
  """Asserts that the stream gives what full logits give (float32)."""
  (value, grads), (want, want_grads) = runs["streamed"](), runs["full"]()
  np.testing.assert_allclose(value, want, rtol=1e-4)
  for x, y in zip(grads, want_grads):
    error = jnp.linalg.norm((x - y).ravel()) / jnp.linalg.norm(y.ravel())
    assert error < 1e-5, error


def point(results, floors, vocab, dtype, tokens, width, repeats):
  arrays = _arrays(vocab, dtype, tokens, width)
  functions = {"full": full, "streamed": streamed, "counted": counted}
  for tile in map(int, _TILES.value):
    functions[f"tile_{tile}"] = functools.partial(streamed, tile=tile)
  if _MORE.value:
    every = ("entropy", "lse", "mean_logit", "top")
    functions["entropy"] = functools.partial(streamed, want=("entropy",))
    functions["all_statistics"] = functools.partial(streamed, want=every)
    functions["with_kl"] = divergence
  runs, temporaries = {}, {}
  for name, function in functions.items():
    gradient = jax.jit(jax.value_and_grad(function, (0, 1)))
    compiled = gradient.lower(*arrays).compile()
    memory = compiled.memory_analysis()
    temporaries[name] = getattr(memory, "temp_size_in_bytes", None)
    runs[name] = functools.partial(compiled, *arrays)
    measure.first(runs[name])
  if dtype == "float32":
    check_equal(runs)
  seconds, share = measure.alternate(runs, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  flop = 8 * tokens * width * vocab  # four products: logits are made twice
  gemm = floors[f"gemm_{dtype}_gflop_s"] * 1e9
  results.add(
    vocab=vocab,
    dtype=dtype,
    tokens=tokens,
    width=width,
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    temporaries=temporaries,
    # The stream relative to full logits; then the others to the stream.
    time_ratio=round(middle["streamed"] / middle["full"], 3),
    counted_ratio=round(middle["counted"] / middle["full"], 3),
    temporaries_ratio=_less(temporaries),
    beside_streamed={
      name: round(value / middle["streamed"], 3)
      for name, value in middle.items()
      if name not in ("full", "streamed")
    },
    products_share=round(flop / gemm / middle["streamed"], 3),
    others=share,
    floors=floors,
  )


def _less(temporaries):
  """Full logits' temporaries over the stream's, if the backend tells."""
  if not temporaries["streamed"] or not temporaries["full"]:
    return None
  return round(temporaries["full"] / temporaries["streamed"], 2)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("logprobs", measure.OUT.value)
  smoke = measure.SMOKE.value
  floors = measure.floors(4, 128) if smoke else measure.floors()
  vocabs = [1000] if smoke else list(map(int, _VOCABS.value))
  sizes = (64, 16, 2) if smoke else (_TOKENS.value, _WIDTH.value, 5)
  for vocab, dtype in itertools.product(vocabs, measure.DTYPES.value):
    point(results, floors, vocab, dtype, *sizes)


if __name__ == "__main__":
  app.run(main)
