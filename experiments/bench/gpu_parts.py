"""What the benchmarks of GPUs measure; `gpu.py` chooses parts and runs them.

Each function measures one point in a process of its own and returns the fields
of its record. Weights are random, and activations bfloat16. The time of a
decoding step is taken from the difference of two runs, of 1 and of `new`
tokens, so that prefill isn't in it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import cache, measure, models, train_step
from experiments.bench.models import our_run, random_prompts
from jalign import logprobs
from jalign.decode import MixtureParams, generate, geometric, greedy, sampler
from jalign.types import Head

PEAK_TFLOPS = 989.0  # bfloat16 products without sparsity, H100 and H200


class Sizes(NamedTuple):
  """Sizes for all parts: the real ones, or tiny ones for a trial."""

  prompt: int = 896
  new: int = 128
  repeats: int = 5
  pairs: int = 2
  length: int = 2048
  tokens: int = 32_768  # those of the part `head`
  floors: tuple[int, int] = (8000, 8192)


TINY = Sizes(4, 4, 2, 2, 12, 64, (4, 128))


def _bytes(tree) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def _step_seconds(run_of, new, repeats):
  """Seconds of whole runs, ms of a step, and the share that others used."""
  contestants = {"jalign": run_of(new), "one_token": run_of(1)}
  first = {name: measure.first(run) for name, run in contestants.items()}
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  step = (middle["jalign"] - middle["one_token"]) / (new - 1)
  return {
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "compile": round(first["jalign"] - min(seconds["jalign"]), 2),
    "step_ms": round(1e3 * step, 4),
    "others": share,
  }


def decode(s: Sizes, size: str, batch: str, **changes: Any) -> dict[str, Any]:
  """A decoding step against the bytes that it has to read: weights, cache."""
  rows = int(batch)
  config, model, params = models.ours(size, "bfloat16", **changes)
  prompts = random_prompts(config, rows, s.prompt)
  run_of = functools.partial(our_run, model, params, prompts)
  record = _step_seconds(run_of, s.new, s.repeats)
  floors = measure.floors(*s.floors)
  weights = _bytes(params)
  if not config.tie_word_embeddings:
    weights -= params["embed"].nbytes  # a step reads only a few of its rows
  token = 4 * config.num_hidden_layers * config.num_key_value_heads
  token *= config.head_dim  # bytes of a token's keys and values, two each
  moved = weights + token * rows * (s.prompt + s.new / 2)
  limit_ms = moved / floors["read_gb_s"] / 1e6
  return record | {
    "batch": rows,
    "size": size,
    "new_tokens": s.new,
    "prompt": s.prompt,
    "floors": floors,
    "step_bytes": int(moved),
    "roofline_share": round(limit_ms / record["step_ms"], 3),
  }


def mixture(s: Sizes, size: str, batch: str) -> dict[str, Any]:
  """A step of a mixture of two models against a step of one of them."""
  config, model, params = models.ours(size, "bfloat16")
  _, _, other = models.ours(size, "bfloat16", seed=1)
  prompts = random_prompts(config, int(batch), s.prompt)
  pair = MixtureParams(params, other, jnp.float32(0.125))
  both = functools.partial(our_run, geometric(model, model), pair, prompts)
  single = functools.partial(our_run, model, params, prompts)
  record = _step_seconds(both, s.new, s.repeats)
  alone = _step_seconds(single, s.new, s.repeats)
  return record | {
    "size": size,
    "batch": int(batch),
    "one_model": alone,
    "step_ratio": round(record["step_ms"] / alone["step_ms"], 3),
  }


def flags(s: Sizes, size: str, batch: str, setting: str) -> dict[str, Any]:
  """Decoding under flags that `gpu.py` set; three calls must agree."""
  config, model, params = models.ours(size, "bfloat16")
  prompts = random_prompts(config, int(batch), s.prompt)
  run = our_run(model, params, prompts, s.new, sampler(temperature=0))
  said = [np.asarray(run().sequences.tokens) for _ in range(3)]
  same = all(np.array_equal(said[0], x) for x in said[1:])
  del run
  record = decode(s, size, batch)
  return record | {"setting": setting, "calls_agree": same}


def attention(s: Sizes, size: str, batch: str, kind: str) -> dict[str, Any]:
  return decode(s, size, batch, attention=kind) | {"setting": kind}


def loop(s: Sizes, size: str, batch: str, chunk: str) -> dict[str, Any]:
  """Decoding by a while loop over chunks of steps, each of a known number."""
  config, model, params = models.ours(size, "bfloat16")
  rows, inner = int(batch), int(chunk)
  prompts = random_prompts(config, rows, s.prompt)
  ones = jnp.ones(rows, jnp.int32)

  def run_of(new):
    @jax.jit
    def run(params, prompts):
      params = model.prepare(params, rows)
      held = model.init_cache(params, rows, s.prompt + s.new)
      logits, held = model.extend(params, prompts, ones * s.prompt, held)

      def step(_, carry):
        token, held = carry
        logits, held = model.extend(params, token[:, None], ones, held)
        return greedy(logits), held

      def body(carry):
        count, *carried = carry
        return count + inner, *jax.lax.fori_loop(0, inner, step, tuple(carried))

      # No token is -1, but the loop has to look, as with ends of sequence.
      going = lambda c: (c[0] < new) & ~jnp.all(c[1] == -1)
      start = (jnp.int32(1), greedy(logits), held)
      return jax.lax.while_loop(going, body, start)[1]

    return lambda: run(params, prompts)

  # The first token is the prefill's; the others have to fill whole chunks.
  new = 1 + max((s.new - 1) // inner, 1) * inner
  record = _step_seconds(run_of, new, s.repeats)
  return record | {"size": size, "batch": rows, "setting": inner}


def dpo(s: Sizes, size: str, remat: str) -> dict[str, Any]:
  """A DPO step, float32 masters and bfloat16 products: share of the peak."""
  config, model, params = models.ours(
    size, "bfloat16", param_dtype="float32", remat=remat
  )
  reference = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  rows = train_step.pairs(config.vocab_size, s.pairs, s.length)
  step = train_step.our_step(model, params, reference, rows)
  first = measure.first(step)
  seconds, share = measure.alternate({"jalign": step}, repeats=s.repeats)
  spread = measure.spread(seconds["jalign"])
  tokens = 2 * s.pairs * s.length
  return {
    "size": size,
    "setting": remat,
    "pairs": s.pairs,
    "length": s.length,
    "seconds": {"jalign": spread},
    "first_call": round(first, 2),
    "mfu": round(
      dpo_flop(config, params, tokens, s.length)
      / spread[0]
      / (PEAK_TFLOPS * 1e12),
      4,
    ),
    "others": share,
  }


def dpo_flop(config, params, tokens: int, length: int) -> float:
  """FLOP of a DPO step without recomputation.

  A weight costs 6 FLOP a token for the policy and 2 for the reference; causal
  attention is added.
  """
  weights = sum(x.size for x in jax.tree.leaves(params))
  if not config.tie_word_embeddings:
    weights -= params["embed"].size
  # Scores, and sums over values: 4 FLOP for each pair; half are masked.
  heads = config.num_attention_heads * config.head_dim
  attend = 4 * config.num_hidden_layers * heads * length / 2
  return tokens * 4 * (2 * weights + attend)


def head(s: Sizes, size: str) -> dict[str, Any]:
  """Log-probs and their two gradients against the time of three products."""
  config = models.SIZES[size]
  keys = jax.random.split(jax.random.key(0), 3)
  width, vocab = config.hidden_size, config.vocab_size
  shape = 8, s.tokens // 8
  hidden = jax.random.normal(keys[0], (*shape, width), jnp.bfloat16)
  weight = jax.random.normal(keys[1], (vocab, width), jnp.bfloat16) * 0.02
  targets = jax.random.randint(keys[2], shape, 0, vocab)

  def streamed(hidden, weight):
    logps = logprobs.token_logprobs(hidden, Head(weight), targets)
    return jnp.sum(logps)

  def full(hidden, weight):
    z = jax.nn.log_softmax(logprobs.logits(Head(weight), hidden))
    return jnp.sum(jnp.take_along_axis(z, targets[..., None], -1))

  compiled, temporaries = {}, {}
  for name, function in (("streamed", streamed), ("full", full)):
    gradient = jax.jit(jax.value_and_grad(function, (0, 1)))
    compiled[name] = gradient.lower(hidden, weight).compile()
    memory = compiled[name].memory_analysis()
    temporaries[name] = getattr(memory, "temp_size_in_bytes", None)
  # An eighth of the vocabulary, because the whole product wouldn't fit, too.
  part = weight[: vocab // 8].T
  flat = hidden.reshape(-1, width)
  dot = jax.jit(jnp.dot)
  runs = {
    "streamed": lambda: compiled["streamed"](hidden, weight),
    "product": lambda: dot(flat, part),
  }
  for run in runs.values():
    measure.first(run)
  seconds, share = measure.alternate(runs, repeats=s.repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  record = {
    "size": size,
    "tokens": s.tokens,
    "vocab": vocab,
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "products_share": round(24 * middle["product"] / middle["streamed"], 3),
    "temporaries": temporaries,
    "others": share,
  }
  if temporaries["full"] and temporaries["streamed"]:
    saved = temporaries["full"] / temporaries["streamed"]
    record["temporaries_ratio"] = round(saved, 2)
  return record


def head_layout(s: Sizes, size: str, batch: str) -> dict[str, Any]:
  """A step's logits from a table [V, D] and from one [D, V]."""
  config = models.SIZES[size]
  shape = config.vocab_size, config.hidden_size
  table = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
  hidden = jnp.ones((int(batch), config.hidden_size), jnp.bfloat16)
  product = lambda spec: jax.jit(
    functools.partial(jnp.einsum, spec, preferred_element_type=jnp.float32)
  )
  rows, columns = product("bd,vd->bv"), product("bd,dv->bv")
  turned = table.T.copy()
  # A call makes many products: a single one takes as long as its launch.
  runs = {
    "vocab_major": lambda: [rows(hidden, table) for _ in range(20)],
    "width_major": lambda: [columns(hidden, turned) for _ in range(20)],
  }
  for run in runs.values():
    measure.first(run)
  seconds, share = measure.alternate(runs, repeats=s.repeats)
  return {
    "size": size,
    "batch": int(batch),
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "others": share,
  }


def cache_layout(s: Sizes, batch: str) -> dict[str, Any]:
  """The layouts and writes of `cache.py`, microseconds a layer."""
  kind = "bfloat16", "bfloat16"
  sizes = dict(repeats=s.repeats)
  if s is TINY:
    sizes |= dict(layers=1, steps=2)
  records = cache.records(int(batch), s.prompt + s.new, kind, **sizes)
  return {
    "batch": int(batch),
    "us_per_layer": {
      f"{x['layout']}/{x['write']}": x["us_per_layer"] for x in records
    },
  }


def gate(s: Sizes) -> dict[str, Any]:
  """Checks that greedy tokens equal the CPU's (float32, tiny model)."""
  config, model, params = models.ours("tiny", "float32")
  prompts = random_prompts(config, 2, 5)
  with jax.default_matmul_precision("highest"):
    run = our_run(model, params, prompts, 12, sampler(temperature=0))
    said = np.asarray(run().sequences.tokens)
  cpu = jax.devices("cpu")[0]
  params, prompts = jax.device_put((params, prompts), cpu)
  with jax.default_device(cpu):
    keys = jax.random.split(jax.random.key(2), 2)
    want = generate(
      model,
      params,
      prompts,
      jnp.full(2, 5),
      keys,
      max_new_tokens=12,
      stop_ids=(),
      draw=sampler(temperature=0),
    )
  np.testing.assert_array_equal(said, np.asarray(want.sequences.tokens))
  return {"floors": measure.floors(*s.floors), "tokens_equal": True}
