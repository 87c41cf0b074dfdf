"""Sampling from the geometric mixture of two models.

jalign's is one loop with both caches. Beside it runs a loop written by hand
with Hugging Face's models: each has its cache, their logits are mixed, and
`torch.multinomial` draws. Prompts have 64 tokens, and 128 new ones are drawn.
Weights are equal, and in float32 both must first give the same greedy tokens. A
step of the mixture is also compared with the sum of its two models' steps.

  python -m experiments.bench.mixture --out=FILE.jsonl

Cost: 8 min and 4 GB on 2 idle CPU cores. Without PyTorch only the second
comparison is made.
"""

import jax.numpy as jnp
import numpy as np
from absl import app

from experiments.bench import measure, models
from experiments.bench.models import our_run, random_prompts
from jalign.decode import MixtureParams, geometric, sampler

WEIGHT = 0.125


def their_run(policy, reference, prompts, new, greedy=False):
  """The hand-written loop over two of Hugging Face's models."""
  import torch

  tokens = torch.tensor(np.asarray(prompts))

  def run():
    with torch.inference_mode():
      said, caches = [], [None, None]
      last = tokens
      for _ in range(new):
        logits = []
        for i, model in enumerate((policy, reference)):
          out = model(
            last, past_key_values=caches[i], use_cache=True, logits_to_keep=1
          )
          caches[i] = out.past_key_values
          logits.append(out.logits[:, -1].float())
        mixed = (1 - WEIGHT) * logits[0] + WEIGHT * logits[1]
        if greedy:
          last = mixed.argmax(-1, keepdim=True)
        else:
          last = torch.multinomial(torch.softmax(mixed, -1), 1)
        said.append(last)
      return torch.cat(said, -1)

  return run


def point(results, size, dtype, batch, width, new, repeats):
  config, model, params = models.ours(size, dtype)
  _, _, other = models.ours(size, dtype, seed=1)
  prompts = random_prompts(config, batch, width)
  pair = MixtureParams(params, other, jnp.float32(WEIGHT))
  mixture = geometric(model, model)
  contestants = {
    "jalign": our_run(mixture, pair, prompts, new),
    "policy": our_run(model, params, prompts, new),
    "reference": our_run(model, other, prompts, new),
  }
  peers = [models.theirs(config, p) for p in (params, other)]
  if peers[0] is not None:
    if dtype == "float32":
      mine = our_run(mixture, pair, prompts, 8, sampler(temperature=0))()
      peer = their_run(*peers, prompts, 8, greedy=True)().numpy()
      np.testing.assert_array_equal(
        np.asarray(mine.sequences.tokens)[:, width:], peer
      )
    contestants["transformers"] = their_run(*peers, prompts, new)
  for run in contestants.values():
    measure.first(run)
  seconds, share = measure.alternate(contestants, repeats=repeats)
  middle = {name: measure.spread(x)[0] for name, x in seconds.items()}
  record = {
    "size": size,
    "dtype": dtype,
    "batch": batch,
    "new_tokens": new,
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "step_ratio": round(
      middle["jalign"] / (middle["policy"] + middle["reference"]), 3
    ),
    "others": share,
  }
  if "transformers" in middle:
    record["ratio"] = round(middle["transformers"] / middle["jalign"], 3)
  results.add(**record)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  results = measure.Results("mixture", measure.OUT.value)
  sizes = ["tiny"] if measure.SMOKE.value else measure.SIZES.value
  width, new, repeats = (4, 4, 2) if measure.SMOKE.value else (64, 128, 5)
  for size in sizes:
    for dtype in measure.DTYPES.value:
      for batch in map(int, measure.BATCHES.value):
        point(results, size, dtype, batch, width, new, repeats)


if __name__ == "__main__":
  app.run(main)
