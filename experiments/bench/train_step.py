"""A DPO step: jalign's beside TRL's, and streamed beside full logits.

Eight ragged pairs of up to 128 tokens (a row of that width is in the batch),
policy and reference forward, backward, clipping, AdamW. Equal weights: the
first two losses have to agree within 1e-5 before anything is timed. The memory
of each is the peak of a process of its own.

  python -m experiments.bench.train_step --out=FILE.jsonl

Cost: 12 min and 8 GB on 2 idle CPU cores. Without PyTorch and TRL (the extra
`bench`) jalign is measured alone.
"""

import functools
import importlib.util
import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from experiments.bench import measure, models, trl_step
from jalign import data, losses
from jalign.logprobs import logits
from jalign.training import (
  OptimizerConfig,
  init_state,
  make_objective,
  make_optimizer,
  make_update,
)

_SIZES = flags.DEFINE_list("models", ["s", "s152k"], "of models.SIZES")
_PAIRS = flags.DEFINE_integer("pairs", 8, "of a batch", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 128, "of the longest row")
_PEERS = flags.DEFINE_bool("trl", True, "measure TRL, too")
_MEMORY = flags.DEFINE_bool("memory", True, "measure memory, too")
_ALONE = flags.DEFINE_string("alone", "", "size whose peak memory is printed")
BETA, RATE = 0.1, 1e-6
MODEL_FIELDS = (
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "rms_norm_eps",
  "rope_theta",
)


def ragged_pairs(vocab: int, count: int, length: int) -> list[data.EncodedPair]:
  """Random ids; the first pair's chosen row is as long as any can be."""
  rng = np.random.default_rng(0)
  ids = lambda n: rng.integers(1, vocab, int(n)).astype(np.int32)
  pairs = []
  for i in range(count):
    prompt = length // 4 if i == 0 else rng.integers(2, length // 2 + 1)
    most = length - prompt
    sides = rng.integers(max(most // 2, 1), most + 1, 2)
    first = most if i == 0 else sides[0]
    pairs.append(
      data.EncodedPair(ids(prompt), ids(first), ids(sides[1]), f"made up:{i}")
    )
  return pairs


def trl_pairs(pairs) -> list[trl_step.Pair]:
  sides = "prompt", "chosen", "rejected"
  return [{f"{k}_ids": getattr(p, k).tolist() for k in sides} for p in pairs]


def optimizer():
  """AdamW as TRL sets it up by default, at a constant rate."""
  config = OptimizerConfig(
    learning_rate=RATE, schedule="constant", b2=0.999, max_grad_norm=1.0
  )
  return make_optimizer(config, 1_000_000)


def full_update(model, chain):
  """The step with all logits at once, as one writes it without streaming."""

  def log_probs(params, sequences):
    hidden = model.forward(params, sequences.tokens)[:, :-1]
    z = jax.nn.log_softmax(logits(model.head(params), hidden))
    targets = sequences.tokens[:, 1:, None]
    picked = jnp.take_along_axis(z, targets, -1)[..., 0]
    return jnp.sum(jnp.where(sequences.mask[:, 1:], picked, 0.0), -1)

  def loss(params, batch, ref_params):
    mine = log_probs(params, batch.sequences)
    ref = jax.lax.stop_gradient(log_probs(ref_params, batch.sequences))
    sides = mine[::2], mine[1::2], ref[::2], ref[1::2]
    return jnp.mean(losses.dpo(*sides, beta=BETA))

  @functools.partial(jax.jit, donate_argnums=0)
  def update(state, batch, ref_params):
    value, grads = jax.value_and_grad(loss)(state.params, batch, ref_params)
    steps, opt_state = chain.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, steps)
    one = jnp.float32(1)
    sums = {"loss": (value, one), "grad_norm": (optax.tree.norm(grads), one)}
    state = state.replace(
      step=state.step + 1, params=params, opt_state=opt_state
    )
    return state, sums

  return update


def stepper(update, params, chain, batch, reference):
  """Takes a step and returns its loss; the state stays inside."""
  state = init_state(params, chain)

  def step() -> float:
    nonlocal state
    state, sums = update(state, batch, reference)
    return float(sums["loss"][0] / sums["loss"][1])

  return step


def temporaries(update, params, chain, batch, reference) -> int | None:
  """Bytes of the program's buffers besides its arguments and results."""
  state = jax.eval_shape(functools.partial(init_state, optimizer=chain), params)
  compiled = update.lower(state, batch, reference).compile()
  memory = compiled.memory_analysis()
  return None if memory is None else memory.temp_size_in_bytes


def our_parts(size, pairs, length):
  config, model, params = models.ours(size, "float32")
  _, _, reference = models.ours(size, "float32", seed=1)
  batch = jax.device_put(data.collate_pairs(pairs, len(pairs), length))
  objective = make_objective(functools.partial(losses.dpo, beta=BETA), model)
  chain = optimizer()
  update = make_update(objective, chain)
  return config, model, params, reference, batch, chain, update


def point(results, size, count, length, repeats):
  pairs = ragged_pairs(models.SIZES[size].vocab_size, count, length)
  config, model, params, reference, batch, chain, update = our_parts(
    size, pairs, length
  )
  full = full_update(model, chain)
  rest = (params, chain, batch, reference)
  contestants: dict[str, Any] = {
    "jalign": stepper(update, *rest),
    "full_logits": stepper(full, *rest),
  }
  temporary = {
    "jalign": temporaries(update, *rest),
    "full_logits": temporaries(full, *rest),
  }
  peers = has_trl() and _PEERS.value
  if peers:
    contestants["trl"] = trl_step.make_step(
      models.theirs(config, params),
      models.theirs(config, reference),
      trl_pairs(pairs),
      beta=BETA,
      learning_rate=RATE,
    )
  first, said = {}, {}
  for name, step in contestants.items():
    took = measure.first(lambda s=step, n=name: keep(said, n, s))
    first[name] = round(took, 1)
    said[name].append(step())
  for name, both in said.items():
    np.testing.assert_allclose(both, said["jalign"], rtol=1e-5, err_msg=name)
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  record: dict[str, Any] = {
    "size": size,
    "vocab": config.vocab_size,
    "pairs": count,
    "length": length,
    "losses": said,
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "first_call": first,
    "temporary_bytes": temporary,
    "stream_time": round(middle["jalign"] / middle["full_logits"], 3),
    "others": share,
  }
  if temporary["jalign"] and temporary["full_logits"]:
    saved = temporary["full_logits"] / temporary["jalign"]
    record["stream_memory"] = round(saved, 2)
  if peers:
    record["ratio"] = round(middle["trl"] / middle["jalign"], 3)
  else:
    record["skipped"] = ["trl"]
  results.add(**record)


def keep(said, name, step):
  said[name] = [step()]


def has_trl() -> bool:
  return all(importlib.util.find_spec(x) for x in ("torch", "trl"))


def peak(size: str, count: int, length: int, steps: int = 3) -> float:
  """MB of this process after steps of ours and nothing else."""
  pairs = ragged_pairs(models.SIZES[size].vocab_size, count, length)
  _, _, params, reference, batch, chain, update = our_parts(size, pairs, length)
  step = stepper(update, params, chain, batch, reference)
  del params
  for _ in range(steps):
    step()
  return round(trl_step.peak_memory())


def memory(results, size, count, length):
  """Peak memory of each contestant in a process of its own."""
  config = models.SIZES[size]
  pairs = ragged_pairs(config.vocab_size, count, length)

  def child(module, *arguments, asked=None):
    done = subprocess.run(
      [sys.executable, "-m", f"experiments.bench.{module}", *arguments],
      input=json.dumps(asked) if asked else "",
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]

  sizes = f"--pairs={count}", f"--length={length}"
  found = {"jalign": child("train_step", f"--alone={size}", *sizes)}
  if has_trl() and _PEERS.value:
    asked = {
      "config": {name: getattr(config, name) for name in MODEL_FIELDS},
      "pairs": trl_pairs(pairs),
      "beta": BETA,
      "learning_rate": RATE,
      "steps": 3,
    }
    for name, checkpointing in (("trl", False), ("trl_checkpointing", True)):
      settings = asked | {"checkpointing": checkpointing}
      found[name] = child("trl_step", asked=settings)
  record: dict[str, Any] = {"peak_mb": found}
  if "trl" in found:
    record["memory_ratio"] = round(found["jalign"] / found["trl"], 3)
    record["memory_ratio_checkpointing"] = round(
      found["jalign"] / found["trl_checkpointing"], 3
    )
  results.add(part="memory", size=size, vocab=config.vocab_size, **record)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  count, length, repeats = _PAIRS.value, _LENGTH.value, 5
  if _ALONE.value:
    print(json.dumps({"peak_mb": peak(_ALONE.value, count, length)}))
    return
  results = measure.Results("train_step", measure.OUT.value)
  sizes = _SIZES.value
  if measure.SMOKE.value:
    sizes, count, length, repeats = ["tiny"], 2, 12, 2
  for size in sizes:
    point(results, size, count, length, repeats)
    if _MEMORY.value:
      memory(results, size, count, length)


if __name__ == "__main__":
  app.run(main)
