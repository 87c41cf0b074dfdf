"""PyTorch's side of the benchmarks of GPUs: `generate`, and a plain DPO step.

Weights are random and differ from jalign's, which doesn't change the times. On
the CPU, `decode.py` and `train_step.py` check that both compute the same.
"""

import copy
from typing import Any

import numpy as np

from experiments.bench import decode, measure, models, train_step
from experiments.bench.gpu_parts import Sizes
from experiments.bench.models import random_prompts


def hf_decode(s: Sizes, size: str, batch: str) -> dict[str, Any]:
  """`generate` with the static cache, which compiles the step on GPUs."""
  import torch

  config = models.SIZES[size]
  with torch.device(_device()):
    model = models.hf_model(config).to(torch.bfloat16).eval()
  prompts = np.asarray(random_prompts(config, int(batch), s.prompt))
  runs = {}
  for kind in ("static", "dynamic"):
    run = decode.their_run(model, prompts, s.new, kind)
    runs[kind] = lambda run=run: run().cpu()
    measure.first(runs[kind])
    measure.first(runs[kind])
  seconds, share = measure.alternate(runs, repeats=s.repeats)
  return {
    "size": size,
    "batch": int(batch),
    "new_tokens": s.new,
    "prompt": s.prompt,
    "seconds": {name: measure.spread(x) for name, x in seconds.items()},
    "others": share,
  }


def torch_dpo(s: Sizes, size: str) -> dict[str, Any]:
  """A DPO step: bfloat16 autocast, float32 masters, fused AdamW, SDPA."""
  import torch

  config, device = models.SIZES[size], _device()
  with torch.device(device):
    model = models.hf_model(config)
  model.set_attn_implementation("sdpa")
  reference = copy.deepcopy(model).to(torch.bfloat16).eval()
  on_gpu = device == "cuda"
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=train_step.RATE, weight_decay=0.0, fused=on_gpu
  )
  tokens, prompt, lengths = train_step.pairs(
    config.vocab_size, s.pairs, s.length
  )
  columns = np.arange(s.length)
  scored = (columns >= prompt) & (columns < lengths[:, None])
  # Padding is at the end and isn't scored. So causality is the only mask that
  # is needed, and attention takes its flash kernel.
  ids = torch.tensor(tokens, dtype=torch.long, device=device)
  mask = torch.tensor(scored, device=device)[:, 1:]

  def log_probs(model):
    with torch.autocast(device, torch.bfloat16):
      logits = model(ids, use_cache=False).logits[:, :-1]
    z = logits.float().log_softmax(-1)
    return (z.gather(-1, ids[:, 1:, None])[..., 0] * mask).sum(-1)

  def step():
    with torch.no_grad():
      ref = log_probs(reference)
    gap = log_probs(model) - ref
    margin = train_step.BETA * (gap[::2] - gap[1::2])
    loss = -torch.nn.functional.logsigmoid(margin).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)

  measure.first(step)
  seconds, share = measure.alternate({"torch": step}, repeats=s.repeats)
  return {
    "size": size,
    "pairs": s.pairs,
    "length": s.length,
    "seconds": {"torch": measure.spread(seconds["torch"])},
    "others": share,
  }


def _device() -> str:
  import torch

  return "cuda" if torch.cuda.is_available() else "cpu"
