"""DPO on your own pairs, from a random model: the config to copy.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.

  jalign train --config=experiments/configs/dpo.py --config.loss.beta=0.2 \\
    --config.data.path=FILE.jsonl --workdir=runs/dpo

Any loss on pairs takes DPO's place by an argument:
`--config=experiments/configs/dpo.py:ipo` (see the table in README.md).

Cost: COST_LINE
Expect: EXPECT_LINE
"""

from ml_collections import ConfigDict

DEFAULT_DATA = "experiments/data/demo_preferences.jsonl"


def get_config(loss: str = "dpo") -> ConfigDict:
  """Returns the config.

  Args:
    loss: name of a loss on pairs, with its default hyperparameters.
  """
  c = ConfigDict()
  c.title = f"{loss} on preference pairs"
  c.seed = 0
  c.stages = ("sft", "align")

  c.data = ConfigDict()
  c.data.source = "jsonl"
  c.data.path = DEFAULT_DATA
  c.data.on_error = "error"
  c.data.eval_fraction = 0.1
  c.data.max_prompt_tokens = 64
  c.data.max_response_tokens = 62
  c.data.buckets = (32, 48, 64, 128)

  c.tokenizer = ConfigDict()
  c.tokenizer.path = ""
  c.tokenizer.vocab_size = 512

  c.model = ConfigDict()
  c.model.hidden_size = 128
  c.model.intermediate_size = 384
  c.model.num_hidden_layers = 2
  c.model.num_attention_heads = 4
  c.model.num_key_value_heads = 2
  c.model.rope_theta = 100.0
  c.model.initializer_range = 0.05

  c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))

  # The last stage; `sft` below overrides what differs.
  c.loss = ConfigDict(dict(name=loss))
  if loss == "dpo":
    c.loss.beta = 0.1
    c.loss.label_smoothing = 0.0
  c.batch_size = 32
  c.microbatches = 1
  c.steps = 0
  c.epochs = 3
  c.reference = "step"
  c.eval_every = 25
  c.save_every = 50
  c.optimizer = ConfigDict()
  c.optimizer.learning_rate = 2e-4
  c.optimizer.warmup_steps = 5

  c.sft = ConfigDict()
  c.sft.loss = ConfigDict(dict(name="sft"))
  c.sft.epochs = 20
  c.sft.eval_every = 200
  c.sft.save_every = 200
  c.sft.optimizer = ConfigDict()
  c.sft.optimizer.learning_rate = 3e-3
  c.sft.optimizer.warmup_steps = 20

  c.annotator = ConfigDict()
  c.annotator.function = ""
  c.annotator.kind = "reward"
  c.annotator.scale = 1.0

  c.sample = ConfigDict()
  c.sample.prompts = 64
  c.sample.per_prompt = 1
  c.sample.max_new_tokens = 48
  c.sample.temperature = 1.0
  return c
