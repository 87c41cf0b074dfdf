"""Writes golden.npz: what transformers says of every case, in float32.

python -m tests.models.hf.golden        # needs torch
"""

import json
import pathlib
import sys

import numpy as np

from tests.models.hf import cases

PATH = pathlib.Path(__file__).with_name("golden.npz")
BETA = 0.3


def model_of(case):
  """A model of transformers with the case's weights."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_config(
    cases.config_of(case), attn_implementation="eager"
  ).eval()
  state = {
    name: torch.tensor(cases.weight(name, tuple(x.shape)))
    for name, x in model.state_dict().items()
  }
  if model.config.tie_word_embeddings:
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
  model.load_state_dict(state)
  model.tie_weights()
  return model.float()


def log_probs(model):
  """[2] sums over the second half of each row of tokens."""
  import torch

  tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
  logps = torch.log_softmax(model(tokens).logits[:, :-1].float(), -1)
  picked = logps.gather(-1, tokens[:, 1:, None])[..., 0]
  return picked[:, 5:].sum(-1)


def greedy(model):
  """Each prompt's continuation, alone: no padding takes part."""
  import torch

  out = []
  for prompt in cases.PROMPTS:
    tokens = torch.tensor([prompt])
    found = model.generate(
      tokens, max_new_tokens=cases.NEW, do_sample=False, eos_token_id=None
    )
    out.append(found[0, len(prompt) :].numpy())
  return np.stack(out)


def values(case):
  """Everything that is compared."""
  import torch

  model = model_of(case)
  tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
  with torch.no_grad():
    logits = model(tokens).logits.numpy()
  # DPO of the first row over the second; the reference gives 0.
  sums = log_probs(model)
  loss = -torch.nn.functional.logsigmoid(BETA * (sums[0] - sums[1]))
  loss.backward()
  gradients = {
    name: float((p.grad.numpy() * cases.direction(name, p.shape)).sum())
    for name, p in model.named_parameters()
  }
  shapes = {name: list(x.shape) for name, x in model.state_dict().items()}
  if model.config.tie_word_embeddings:
    del shapes["lm_head.weight"]
  described = {
    "config": model.config.to_dict()
    | {"dtype": "float32", "architectures": [type(model).__name__]},
    "shapes": shapes,
    "gradients": gradients,
    "loss": float(loss.detach()),
  }
  return logits, greedy(model), described


def main():
  arrays = {}
  for case in cases.CASES:
    logits, tokens, described = values(case)
    arrays |= {
      f"{case}/logits": logits,
      f"{case}/greedy": tokens,
      f"{case}/json": np.array(json.dumps(described)),
    }
    print(case, f"spread of logits {logits.std():.3f}", file=sys.stderr)
  np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
  main()
