"""Writes golden.npz: transformers' values for every case, in float32.

python -m tests.models.hf.golden        # needs the extra `parity`
"""

import json
import pathlib
import tempfile

import numpy as np
import safetensors

from tests.models.hf import cases

PATH = pathlib.Path(__file__).with_name("golden.npz")
BETA = 0.3


def written(model, folder):
  """The config and the shapes of a model that transformers saves."""
  model.save_pretrained(folder)
  folder = pathlib.Path(folder)
  config = json.loads((folder / "config.json").read_text())
  return config, shapes_in(folder / "model.safetensors")


def shapes_in(path):
  with safetensors.safe_open(path, "numpy") as file:
    names = list(file.keys())
    return {name: file.get_slice(name).get_shape() for name in names}


def model_of(case, folder, kind="AutoModelForCausalLM", **options):
  """(model with the case's weights, config, shapes by name in its file)."""
  import torch
  import transformers

  auto = getattr(transformers, kind)
  config = cases.config_of(case)
  for key, value in options.items():
    setattr(config, key, value)
  made = auto.from_config(config, attn_implementation="eager").float()
  config, shapes = written(made, f"{folder}/made")
  at = cases.write(pathlib.Path(folder) / "model", config, shapes)
  model, said = auto.from_pretrained(
    at,
    attn_implementation="eager",
    dtype=torch.float32,
    output_loading_info=True,
  )
  assert not said["missing_keys"] and not said["unexpected_keys"], said
  return model.eval(), config, shapes


def log_probs(model):
  """[2] sums of log-probs over the second half of each row of tokens."""
  import torch

  tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
  logps = torch.log_softmax(model(tokens).logits[:, :-1].float(), -1)
  picked = logps.gather(-1, tokens[:, 1:, None])[..., 0]
  return picked[:, 5:].sum(-1)


def greedy(model):
  """Each prompt's greedy continuation, computed singly, without padding."""
  import torch

  out = []
  for prompt in cases.PROMPTS:
    tokens = torch.tensor([prompt])
    sequences = model.generate(
      tokens, max_new_tokens=cases.NEW, do_sample=False, eos_token_id=None
    )
    out.append(sequences[0, len(prompt) :].numpy())
  return np.stack(out)


def values(case, folder):
  """All values of a case that are compared."""
  import torch

  model, config, shapes = model_of(case, folder)
  tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
  with torch.no_grad():
    logits = model(tokens).logits.numpy()
  # DPO of the first row over the second; the reference gives 0.
  sums = log_probs(model)
  loss = -torch.nn.functional.logsigmoid(BETA * (sums[0] - sums[1]))
  loss.backward()
  gradients = {
    name: float((x * cases.direction(name, x.shape)).sum())
    for name, x in by_file(model, case)
  }
  described = {
    "config": config,
    "shapes": shapes,
    "gradients": gradients,
    "loss": float(loss.detach()),
  }
  return logits, greedy(model), described


def by_file(model, case):
  """Yields (name in the file, gradient); the model's experts are one tensor."""
  names = {
    "mixtral": ("w1", "w3", "w2"),
    "qwen3-moe": ("gate_proj", "up_proj", "down_proj"),
  }.get(case)
  for name, p in model.named_parameters():
    x = p.grad.numpy()
    if names and case == "mixtral":
      name = name.replace(".mlp.", ".block_sparse_moe.")
    if names and name.endswith("experts.gate_up_proj"):
      stem, width = name.removesuffix("gate_up_proj"), x.shape[1] // 2
      for i, expert in enumerate(x):
        yield f"{stem}{i}.{names[0]}.weight", expert[:width]
        yield f"{stem}{i}.{names[1]}.weight", expert[width:]
    elif names and name.endswith("experts.down_proj"):
      for i, expert in enumerate(x):
        yield f"{name.removesuffix('down_proj')}{i}.{names[2]}.weight", expert
    else:
      yield name, x


def adapted(case, folder):
  """Logits under an adapter of PEFT, the adapter's config and its shapes."""
  import peft
  import torch

  model, _, _ = model_of(case, folder)
  settings = peft.LoraConfig(
    r=3, lora_alpha=4, task_type="CAUSAL_LM", **cases.ADAPTERS[case]
  )
  peft.get_peft_model(model, settings).save_pretrained(f"{folder}/adapter")
  at = pathlib.Path(folder) / "adapter"
  config = json.loads((at / "adapter_config.json").read_text())
  shapes = shapes_in(at / "adapter_model.safetensors")
  cases.write_adapter(at, config, shapes)
  model, _, _ = model_of(case, folder)
  model = peft.PeftModel.from_pretrained(model, at).eval()
  with torch.no_grad():
    tokens = torch.tensor(cases.TOKENS, dtype=torch.long)
    logits = model(tokens).logits.numpy()
  config = {k: v for k, v in config.items() if "base_model" not in k}
  return logits, {"config": config, "shapes": shapes}


def rewarded(case, folder, tokens=cases.PADDED, **options):
  """Scores [B, M] of padded rows, the config, and the shapes in the file."""
  import torch

  kind = "AutoModelForSequenceClassification"
  model, config, shapes = model_of(case, folder, kind, **options)
  rows = torch.tensor(tokens, dtype=torch.long)
  with torch.no_grad():
    scores = model(rows, attention_mask=rows != 0).logits.numpy()
  return scores, {"config": config, "shapes": shapes}


def adapted_reward(case, folder):
  """Scores under an adapter of a reward model, its config and its shapes."""
  import peft
  import torch

  kind = "AutoModelForSequenceClassification"
  options = cases.REWARD_ADAPTERS[case]
  settings = peft.LoraConfig(r=3, lora_alpha=4, task_type="SEQ_CLS", **options)
  model, _, _ = model_of(case, folder, kind, num_labels=2)
  peft.get_peft_model(model, settings).save_pretrained(f"{folder}/adapter")
  at = pathlib.Path(folder) / "adapter"
  config = json.loads((at / "adapter_config.json").read_text())
  shapes = shapes_in(at / "adapter_model.safetensors")
  cases.write_adapter(at, config, shapes)
  model, _, _ = model_of(case, folder, kind, num_labels=2)
  model = peft.PeftModel.from_pretrained(model, at).eval()
  rows = torch.tensor(cases.PADDED, dtype=torch.long)
  with torch.no_grad():
    scores = model(rows, attention_mask=rows != 0).logits.numpy()
  config = {k: v for k, v in config.items() if "base_model" not in k}
  return scores, {"config": config, "shapes": shapes}


def main():
  arrays = {}

  def add(name, described, **values):
    nonlocal arrays
    arrays |= {f"{name}/{key}": x for key, x in values.items()}
    arrays[f"{name}/json"] = np.array(json.dumps(described))
    print(name, {k: f"{x.std():.3f}" for k, x in values.items()})

  with tempfile.TemporaryDirectory() as folder:
    for case in cases.CASES:
      logits, tokens, described = values(case, folder)
      add(case, described, logits=logits, greedy=tokens)
    for case in cases.ADAPTERS:
      logits, described = adapted(case, folder)
      add(f"adapter/{case}", described, logits=logits)
    for case in cases.REWARDS:
      scores, described = rewarded(case, folder, num_labels=1)
      add(f"reward/{case}", described, scores=scores[:, 0])
    for case in cases.LABELS:
      scores, described = rewarded(
        case, folder, cases.ENDED, id2label=cases.NAMES, pad_token_id=2
      )
      add(f"labels/{case}", described, scores=scores)
    for case in cases.REWARD_ADAPTERS:
      scores, described = adapted_reward(case, folder)
      add(f"reward_adapter/{case}", described, scores=scores)
  np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
  main()
