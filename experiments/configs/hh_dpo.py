"""DPO on Anthropic's harmless-base dialogues, from scratch.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.
Data: Bai et al. 2022, arXiv:2204.05862 (hh-rlhf, MIT licence).

  jalign train --config=hh_dpo \
    --config.data.path=FILE/hh_harmless_base_test.jsonl.gz --workdir=runs/hh

The run trains a tokenizer, then a policy by SFT on the chosen responses, then
by DPO. The dialogues of 10 % of the first human turns are held out whole.

Cost: 8 min 14 s and 2.1 GiB on 2 CPU cores; 2.4 M parameters.
Expect: held-out ranking accuracy 62.6 ± 6.3 % after SFT and 63.1 ± 6.3 % after
DPO; reward accuracy of DPO over SFT 66.0 ± 6.1 % (95 %, 240 pairs, one seed).
A model of this size writes English-looking nonsense.
"""

from ml_collections import ConfigDict

from jalign.configs import base


def get_config() -> ConfigDict:
  """Returns the config."""
  c = base.get_config()
  c.title = "DPO on hh-rlhf harmless-base"
  c.stages = ("sft", "dpo")

  c.data.source = "hh"
  c.data.max_prompt_tokens = 160
  c.data.max_response_tokens = 96
  c.data.buckets = (64, 128, 256)
  c.tokenizer.vocab_size = 4096

  c.model.hidden_size = 192
  c.model.intermediate_size = 512
  c.model.num_hidden_layers = 4
  c.model.num_attention_heads = 6
  c.model.num_key_value_heads = 3
  c.model.qk_norm = True
  c.model.initializer_range = 0.05

  # The last stage. Its reference never changes, so that its log-probs are
  # computed once.
  c.loss = ConfigDict(dict(name="dpo", beta=0.1))
  c.reference = "precompute"
  c.batch_size = 32
  c.epochs = 1
  c.eval_every = 20
  c.save_every = 40
  c.select = "eval/loss"
  c.optimizer.learning_rate = 1e-4
  c.optimizer.warmup_steps = 10

  c.sft = base.stage(dict(name="sft"), epochs=4)
  c.sft.eval_every = 66
  c.sft.save_every = 66
  c.sft.select = "eval/nll_nats_per_token"
  c.sft.optimizer.learning_rate = 2e-3
  c.sft.optimizer.weight_decay = 0.1
  c.sft.optimizer.warmup_steps = 20

  c.sample.prompts = 16
  c.sample.max_new_tokens = 64
  c.sample.temperature = 0.7
  return c
