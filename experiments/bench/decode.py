"""Decoding: jalign's `generate` beside Hugging Face's and Tunix's.

Prompts have 64 tokens; 128 new ones are sampled from the whole vocabulary at
temperature 1, without an end of sequence. Times are of prefill and loop
together. Weights are equal, and in float32 all contestants must first give the
same greedy tokens. Of Hugging Face's cache modes the faster one counts. Tunix
takes part for the size s, with --tunix=PYTHON from an environment of its own
(google-tunix 0.1.7).

  python -m experiments.bench.decode --out=FILE.jsonl

Cost: 20 min and 4 GB on 2 idle CPU cores. Without PyTorch (the extra `bench`)
jalign is measured alone.
"""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.bench import measure, models, tunix_peer
from experiments.bench.models import our_run, random_prompts
from jalign.decode import DrawnTokens, Sampler, sampler

_PEERS = flags.DEFINE_bool("peers", True, "measure Hugging Face, too")
_TUNIX = flags.DEFINE_string("tunix", "", "Python that has google-tunix")
_SHARE = flags.DEFINE_bool("sampling", True, "measure the sampler's share")


def their_run(model, prompts, new, cache, greedy=False):
  """The function of Hugging Face's model that is timed."""
  import torch

  tokens = torch.tensor(np.asarray(prompts)).to(model.device)
  settings = (
    dict(do_sample=False)
    if greedy
    else dict(do_sample=True, top_k=0, top_p=1.0, temperature=1.0)
  )
  if cache == "static":
    settings["cache_implementation"] = "static"

  def run():
    with torch.inference_mode():
      return model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=new,
        min_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
        **settings,
      )

  return run


def check_equal(config, model, params, other, prompts, new=12):
  """Asserts that both models give the same greedy tokens (float32)."""
  mine = our_run(model, params, prompts, new, sampler(temperature=0))()
  peer = their_run(other, prompts, new, "dynamic", greedy=True)().numpy()
  np.testing.assert_array_equal(np.asarray(mine.sequences.tokens), peer)


def point(results, floors, size, dtype, batch, width, new, repeats):
  config, model, params = models.ours(size, dtype)
  prompts = random_prompts(config, batch, width)
  mine = our_run(model, params, prompts, new)
  compile_and_run = measure.first(mine)
  contestants = {"jalign": mine}
  other = models.theirs(config, params) if _PEERS.value else None
  modes, extra, pids = {}, {}, []
  if other is not None:
    if dtype == "float32":
      check_equal(config, model, params, other, prompts)
    for cache in ("dynamic", "static"):
      run = their_run(other, prompts, new, cache)
      modes[cache] = min(measure.first(run) for _ in range(3))
    best = min(modes, key=modes.__getitem__)
    contestants["transformers"] = their_run(other, prompts, new, best)
  python = tunix_peer.interpreter(_TUNIX.value) if _PEERS.value else None
  with contextlib.ExitStack() as stack:
    if python and size in ("s", "tiny"):
      peer = stack.enter_context(
        tunix_peer.start(python, config, params, prompts, new)
      )
      if dtype == "float32":
        count = min(new, 12)
        said = our_run(model, params, prompts, count, sampler(temperature=0))()
        said = np.asarray(said.sequences.tokens)[:, width:]
        np.testing.assert_array_equal(said, peer.greedy(count))
      extra["tunix"] = peer.version
      extra["tunix_first_call"] = round(measure.first(peer.run), 2)
      contestants["tunix"] = peer.run
      pids.append(peer.pid)
    seconds, share = measure.alternate(contestants, repeats=repeats, pids=pids)
  size_bytes = sum(x.nbytes for x in jax.tree.leaves(params))
  step = measure.spread(seconds["jalign"])[0] / new
  record = {
    "size": size,
    "dtype": dtype,
    "batch": batch,
    "new_tokens": new,
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "first_call": round(compile_and_run, 2),
    "compile": round(compile_and_run - min(seconds["jalign"]), 2),
    "others": share,
    "floors": floors,
    "floor_share": round(size_bytes / floors["read_gb_s"] / 1e9 / step, 3),
    "weight_bytes": size_bytes,
  }
  if modes:
    record["peer_mode"] = best
    record["ratio"] = _ratio(seconds, "transformers", "jalign")
  if "tunix" in seconds:
    record["ratio_tunix"] = _ratio(seconds, "tunix", "jalign")
  skipped = [x for x in ("transformers", "tunix") if x not in contestants]
  results.add(**record, **extra, **({"skipped": skipped} if skipped else {}))


def _ratio(seconds, slow, fast):
  return round(
    measure.spread(seconds[slow])[0] / measure.spread(seconds[fast])[0], 3
  )


def _first_token() -> Sampler:
  """A sampler of token 0 for any logits, which are computed all the same."""

  def draw(logits, uniforms, seen=None, layout=None):
    del uniforms, seen, layout
    whole = jax.lax.optimization_barrier(logits)
    token = (whole[:, 0] > 1e9).astype(jnp.int32)
    return DrawnTokens(token, jnp.zeros(len(token)))

  return Sampler(lambda z, seen=None: z, draw, plain=True)


def sampling_share(results, size, dtype, batch, width, new, repeats):
  """How much longer a step takes because of the draw and its log-prob."""
  config, model, params = models.ours(size, dtype)
  prompts = random_prompts(config, batch, width)
  contestants = {
    "sampled": our_run(model, params, prompts, new),
    "undrawn": our_run(model, params, prompts, new, _first_token()),
  }
  logits = jax.random.normal(jax.random.key(0), (batch, config.vocab_size))
  uniforms = jax.random.uniform(jax.random.key(1), (batch,))
  alone = jax.jit(lambda z, u: sampler().draw(z, u))
  contestants["draw_alone"] = lambda: alone(logits, uniforms)
  for run in contestants.values():
    measure.first(run)
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  results.add(
    part="sampling",
    size=size,
    dtype=dtype,
    batch=batch,
    vocab=config.vocab_size,
    seconds={name: measure.spread(x) for name, x in seconds.items()},
    share=round(1 - middle["undrawn"] / middle["sampled"], 4),
    share_alone=round(middle["draw_alone"] / (middle["sampled"] / new), 4),
    others=share,
  )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("decode", measure.OUT.value)
  smoke = measure.SMOKE.value
  floors = measure.floors(4, 128) if smoke else measure.floors()
  sizes = ["tiny"] if smoke else measure.SIZES.value
  batches = [2] if smoke else list(map(int, measure.BATCHES.value))
  width, new, repeats = (4, 4, 2) if smoke else (64, 128, 5)
  for size, dtype, batch in itertools.product(
    sizes, measure.DTYPES.value, batches
  ):
    point(results, floors, size, dtype, batch, width, new, repeats)
  if _SHARE.value:
    for dtype in measure.DTYPES.value:
      sampling_share(
        results,
        "tiny" if smoke else "m152k",
        dtype,
        batches[-1],
        width,
        new // 4,
        repeats,
      )


if __name__ == "__main__":
  app.run(main)
