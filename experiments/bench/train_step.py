"""A step of DPO: jalign's update beside TRL's trainer.

The step is forward and backward passes of policy and reference, and AdamW, in
float32, on 8 pairs of 32 prompt tokens and 48 to 96 response tokens, padded to
128. Weights are equal, and the losses must first agree to 1e-5. jalign keeps
the products of a layer (remat "dots"); TRL keeps everything, its faster way.
TRL's step is its trainer's `training_step` on a batch of its collator, and the
optimizer's step. Peak memory is that of processes of their own, libraries
included.

  python -m experiments.bench.train_step --sizes=s,s152k --out=FILE.jsonl

Cost: 8 min and 12 GB on 2 idle CPU cores. Without TRL jalign is measured alone.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from experiments.bench import measure, models
from jalign.losses import dpo
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import PairBatch, Sequences

_ONLY = flags.DEFINE_enum(
  "only", "", ["", "jalign", "trl"], "only print the peak memory of this one"
)
BETA, RATE = 0.1, 1e-6


def pairs(vocab, count, width):
  """[2 count, width] interleaved rows, prompts' length, [2 count] lengths."""
  rng = np.random.default_rng(0)
  prompt = width // 4
  tokens = rng.integers(3, vocab, (2 * count, width)).astype(np.int32)
  tokens[1::2, :prompt] = tokens[0::2, :prompt]
  lengths = prompt + rng.integers(3 * width // 8, 3 * width // 4 + 1, 2 * count)
  lengths[0] = width
  tokens[np.arange(width) >= lengths[:, None]] = 0
  return tokens, prompt, lengths.astype(np.int32)


def our_step(model, params, reference, rows):
  """A function that makes one update and returns its metrics."""
  tokens, prompt, lengths = rows
  columns = np.arange(tokens.shape[1])
  mask = (columns >= prompt) & (columns < lengths[:, None])
  batch = PairBatch(
    Sequences(jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(lengths)),
    jnp.ones(len(tokens) // 2),
  )
  objective = make_objective(functools.partial(dpo, beta=BETA), model)
  optimizer = optax.adamw(RATE, weight_decay=0.0)
  update = make_update(objective, optimizer)
  # The update donates its state, so the parameters are copied.
  state = [init_state(jax.tree.map(jnp.copy, params), optimizer)]

  def step():
    state[0], sums = update(state[0], batch, reference)
    return sums

  return step


def their_step(policy, reference, rows, folder):
  """The step by TRL's trainer, which returns the loss; None without TRL."""
  try:
    import datasets
    import tokenizers
    import transformers
    import trl
  except ImportError:
    return None
  words = {"<pad>": 0, "<eos>": 1, "a": 2}
  inner = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token="<pad>")
  )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>"
  )
  tokens, prompt, lengths = rows
  examples = [
    {
      "prompt_ids": tokens[i, :prompt].tolist(),
      "chosen_ids": tokens[i, prompt : lengths[i]].tolist(),
      "rejected_ids": tokens[i + 1, prompt : lengths[i + 1]].tolist(),
    }
    for i in range(0, len(tokens), 2)
  ]
  text = {"prompt": ["a"], "chosen": ["a"], "rejected": ["a"]}
  trainer = trl.DPOTrainer(
    model=policy,
    ref_model=reference,
    args=trl.DPOConfig(
      output_dir=folder,
      beta=BETA,
      learning_rate=RATE,
      per_device_train_batch_size=len(examples),
      bf16=False,
      gradient_checkpointing=False,
      max_length=None,
      report_to=[],
      use_cpu=True,
    ),
    train_dataset=datasets.Dataset.from_dict(text),
    processing_class=tokenizer,
  )
  batch = trainer.data_collator(examples)
  optimizer = trainer.create_optimizer()
  trainer.model.train()
  trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it

  def step():
    loss = trainer.training_step(trainer.model, batch)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)

  return step


def contestants(size, only, count, width, folder):
  """Steps by name, of those contestants that can run."""
  config, model, params = models.ours(size, "float32", remat="dots")
  _, _, reference = models.ours(size, "float32", seed=1, remat="dots")
  rows = pairs(config.vocab_size, count, width)
  steps = {}
  if only != "jalign":
    made = [models.theirs(config, p) for p in (params, reference)]
    theirs = made[0] and their_step(*made, rows, folder)
    if theirs:
      steps["trl"] = theirs
  if only == "trl":
    del params, reference
    return steps
  steps["jalign"] = our_step(model, params, reference, rows)
  return steps


def peak(size, only):
  """Peak memory in bytes of a process that makes three steps."""
  command = [sys.executable, "-m", "experiments.bench.train_step"]
  smoke = ["--smoke"] if measure.SMOKE.value else []
  run = subprocess.run(
    [*command, f"--sizes={size}", f"--only={only}", *smoke],
    capture_output=True,
    text=True,
    check=True,
  )
  return int(run.stdout.split()[-1])


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  smoke = measure.SMOKE.value
  count, width, repeats = (2, 16, 2) if smoke else (8, 128, 5)
  sizes = ["tiny"] if smoke else measure.SIZES.value
  with tempfile.TemporaryDirectory() as folder:
    if _ONLY.value:
      steps = contestants(sizes[0], _ONLY.value, count, width, folder)
      for _ in range(3):
        jax.block_until_ready(steps[_ONLY.value]())
      # Not by getrusage, whose peak is inherited from the process that forked.
      status = pathlib.Path("/proc/self/status").read_text()
      print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
      return
    results = measure.Results("train_step", measure.OUT.value)
    for size in sizes:
      measure_size(results, size, count, width, repeats, folder)


def measure_size(results, size, count, width, repeats, folder):
  steps = contestants(size, "", count, width, folder)
  first = {name: step() for name, step in steps.items()}
  total, examples = first["jalign"]["loss"]
  loss = float(total / examples)
  if "trl" in first:
    np.testing.assert_allclose(loss, first["trl"], rtol=1e-5)
  for step in steps.values():
    measure.first(step)
  seconds, share = measure.alternate(steps, repeats=repeats)
  memory = {name: peak(size, name) for name in steps}
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  record = {
    "size": size,
    "dtype": "float32",
    "pairs": count,
    "width": width,
    "loss": round(loss, 6),
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "peak_rss": memory,
    "others": share,
  }
  if "trl" in middle:
    record["ratio"] = round(middle["trl"] / middle["jalign"], 3)
    record["memory_ratio"] = round(memory["jalign"] / memory["trl"], 3)
  results.add(**record)


if __name__ == "__main__":
  app.run(main)
