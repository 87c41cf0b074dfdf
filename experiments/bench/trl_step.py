"""A step of TRL's `DPOTrainer`, taken out of its loop; nothing of JAX here.

The trainer's own `training_step` (both forward passes, the loss, its metrics
and the backward pass), then clipping, AdamW and the schedule as its loop calls
them. Logging, callbacks and the loader are left out, which is in its favour.

Run as a module it takes a few steps and prints its peak memory: a process of
its own, whose memory holds no other contestant.
"""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

Pair = dict[str, list[int]]  # prompt_ids, chosen_ids, rejected_ids


def hf_model(config: dict[str, Any], dtype: str = "float32"):
  """A `Qwen3ForCausalLM` with random weights and the fields of `config`."""
  import torch
  from transformers import Qwen3Config, Qwen3ForCausalLM

  theta = config.get("rope_theta", 10_000.0)
  made = Qwen3Config(
    **config,
    rope_parameters={"rope_type": "default", "rope_theta": theta},
    tie_word_embeddings=True,
    max_position_embeddings=4096,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
  )
  return Qwen3ForCausalLM(made).to(getattr(torch, dtype))


def _tokenizer():
  """Never called on text: the trainer wants to read a padding token off it."""
  from tokenizers import Tokenizer, models
  from transformers import PreTrainedTokenizerFast

  words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, "<pad>"))
  return PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", eos_token="</s>"
  )


def make_step(
  model,
  reference,
  pairs: Sequence[Pair],
  *,
  beta: float,
  learning_rate: float,
  checkpointing: bool = False,
) -> Callable[[], float]:
  """A function that takes one step on the batch and returns its loss.

  Args:
    model: the policy, trained in place.
    reference: another model of the same vocabulary.
    pairs: one batch of token ids.
    beta: of the DPO loss.
    learning_rate: constant.
    checkpointing: recompute activations in the backward pass.
  """
  import torch
  from datasets import Dataset
  from trl import DPOConfig, DPOTrainer

  class Pretokenized(DPOTrainer):
    def _prepare_dataset(self, dataset, *_, **__):
      return dataset

  # The trainer makes its folder when it is built; nothing is written to it.
  with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trainer = Pretokenized(
      model=model,
      ref_model=reference,
      args=DPOConfig(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=checkpointing,
        per_device_train_batch_size=len(pairs),
        max_length=None,
        beta=beta,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=1.0,
        report_to=[],
        disable_tqdm=True,
      ),
      train_dataset=Dataset.from_list(list(pairs)),
      processing_class=_tokenizer(),
    )
  trainer.create_optimizer_and_scheduler(num_training_steps=1_000_000)
  accelerator = trainer.accelerator
  wrapped, optimizer = accelerator.prepare(trainer.model, trainer.optimizer)
  wrapped.train()
  if checkpointing:
    wrapped.gradient_checkpointing_enable()
  inputs = trainer.data_collator(list(pairs))
  inputs = {k: v.to(accelerator.device) for k, v in inputs.items()}
  trainer.current_gradient_accumulation_steps = 1

  def step() -> float:
    loss = trainer.training_step(wrapped, dict(inputs), None)
    accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
    optimizer.step()
    trainer.lr_scheduler.step()
    wrapped.zero_grad()
    return float(loss)

  return step


def peak_memory() -> float:
  """MB that the process held at most; 0 where /proc doesn't tell."""
  with contextlib.suppress(OSError):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
      if line.startswith("VmHWM"):
        return int(line.split()[1]) / 1024
  return 0.0


def main() -> None:
  """Reads a JSON object from standard input: config, pairs and settings."""
  import torch

  asked = json.load(sys.stdin)
  torch.set_num_threads(os.cpu_count() or 1)
  step = make_step(
    hf_model(asked["config"]),
    hf_model(asked["config"]),
    asked["pairs"],
    beta=asked["beta"],
    learning_rate=asked["learning_rate"],
    checkpointing=asked["checkpointing"],
  )
  for _ in range(asked["steps"]):
    step()
  print(json.dumps({"peak_mb": round(peak_memory())}))


if __name__ == "__main__":
  main()
