"""DPO from a Hugging Face checkpoint, on chats.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign train --config=checkpoint --workdir=runs/dpo \
    --config.init_from=CHECKPOINT --config.data.path=FILE.jsonl
  jalign convert --model=runs/dpo --to=NEW_FOLDER

CHECKPOINT is a folder with config.json, safetensors and a tokenizer with a
chat template, or such a repository on the hub; FILE.jsonl has rows of "prompt",
"chosen" and "rejected" as lists of messages. An argument puts another loss on
pairs in DPO's place: `--config=checkpoint:ipo`. All parameters are trained, in
float32; products are in bfloat16. With --config.lora.rank=16 a low-rank change
is trained instead, for which a learning rate of 1e-5 or more is usual.

Cost and results haven't been measured on a published checkpoint.
"""

from ml_collections import ConfigDict

from jalign.configs import base


def get_config(loss: str = "dpo") -> ConfigDict:
  """Returns the config.

  Args:
    loss: name of a loss on pairs.
  """
  c = base.get_config()
  c.title = f"{loss} from a checkpoint"
  c.stages = ("align",)
  c.data.template = "tokenizer"
  c.data.max_prompt_tokens = 512
  c.data.max_response_tokens = 512
  c.data.buckets = (256, 512, 1024)
  c.model.dtype = "bfloat16"

  c.loss = base.loss(loss)
  c.batch_size = 32
  c.epochs = 1
  c.eval_every = 100
  c.save_every = 100
  c.optimizer.learning_rate = 5e-7
  c.optimizer.warmup_steps = 10

  c.sample.prompts = 32
  c.max_new_tokens = c.sample.max_new_tokens = 256
  return c
