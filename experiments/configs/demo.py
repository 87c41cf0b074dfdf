"""The demo: four ways to align a summariser with a judge.

A small transformer learns to summarise from imperfect summaries (SFT). Then
four methods start from that policy, each with the same judge, a population of
readers whose mean preference runs in a circle:

  dpo         arXiv:2305.18290, on labelled pairs of demonstrations
  online_dpo  arXiv:2402.04792
  online_ipo  arXiv:2403.08635
  ipo_md      arXiv:2403.08635, on samples of the mixture with the reference

`make demo` runs the demo in a clone; flags change it:

  jalign train --config=demo --workdir=runs/mine --config.loss.tau=0.1

Cost: about six minutes and 1.3 GiB on 2 CPU cores, after installation.
Expect: win rates over SFT under the population are DPO 59.5 ± 2.6, online DPO
72.3 ± 2.1, online IPO 73.1 ± 2.0, IPO-MD 73.6 ± 1.9 % (95 %, 500 held-out
posts, one seed); see experiments/RESULTS.md.
"""

from ml_collections import ConfigDict

from jalign.configs import base


def get_config() -> ConfigDict:
  """Returns the config."""
  c = base.get_config()
  c.title = "jalign demo: summaries, and a preference that runs in a circle"
  c.stages = ("warmup", "sft", "dpo", "online_dpo", "online_ipo", "ipo_md")

  c.data.source = "tldr_world"
  c.data.path = "preferences[:16000]"
  c.data.eval_fraction = 0.05
  c.data.max_prompt_tokens = 48
  c.data.max_response_tokens = 24
  c.data.buckets = (56, 72)
  c.tokenizer.kind = "words"

  # The model has 0.1 M parameters. Two wide heads with normed queries and keys
  # learn to copy several times sooner than four narrow heads; a small rotary
  # base suits contexts this short.
  c.model.hidden_size = 64
  c.model.intermediate_size = 192
  c.model.num_hidden_layers = 2
  c.model.num_attention_heads = 2
  c.model.num_key_value_heads = 2
  c.model.qk_norm = True
  c.model.rope_theta = 100.0
  c.model.initializer_range = 0.04
  c.model.remat = "none"
  c.model.scan_unroll = 2

  # The model learns to copy on lists of words, much sooner than on posts.
  c.warmup = base.stage(dict(name="sft"), steps=500, batch_size=64, judge=False)
  c.warmup.data.path = "echo[:12800]"
  c.warmup.data.buckets = (28,)
  c.warmup.data.max_prompt_tokens = 14
  c.warmup.optimizer.learning_rate = 4e-3
  c.warmup.optimizer.final_fraction = 0.05
  c.warmup.optimizer.warmup_steps = 50
  c.warmup.optimizer.b2 = 0.95
  c.warmup.data.eval_fraction = 0.01
  c.warmup.log_every = 50

  c.sft = base.stage(dict(name="sft"), steps=2200, batch_size=32)
  c.sft.data.path = "sft[:20000]"
  c.sft.optimizer.learning_rate = 3e-3
  c.sft.optimizer.final_fraction = 0.05
  c.sft.optimizer.warmup_steps = 50
  c.sft.optimizer.b2 = 0.95
  c.sft.optimizer.weight_decay = 0.01
  c.sft.log_every = 50
  c.sft.save_every = 1100

  c.dpo = base.stage(
    dict(name="dpo", beta=0.3), start="sft", epochs=1, batch_size=64
  )
  c.dpo.optimizer.learning_rate = 3e-4
  c.dpo.optimizer.warmup_steps = 10

  c.online_dpo = base.stage(
    dict(beta=0.1), algorithm="online_dpo", start="sft", steps=120
  )
  c.online_dpo.optimizer.learning_rate = 1e-3
  c.online_dpo.optimizer.warmup_steps = 10
  c.online_ipo = base.stage(
    dict(tau=0.03), algorithm="online_ipo", start="sft", steps=120
  )
  c.online_ipo.optimizer = c.online_dpo.optimizer.copy_and_resolve_references()
  c.online_ipo.optimizer.b1 = 0.0

  # The last stage: IPO-MD.
  c.algorithm = "ipo_md"
  c.loss = ConfigDict(dict(tau=0.03))
  c.start = "sft"
  c.optimizer = c.online_ipo.optimizer.copy_and_resolve_references()
  c.steps = 120
  c.batch_size = 32
  c.eval_every = 40
  c.save_every = 60
  c.max_new_tokens = c.sample.max_new_tokens = 24

  c.annotator.function = "jalign.data.tldr_world:population"
  c.annotator.kind = "batch"
  c.annotator.measures = "jalign.data.tldr_world:measures"
  c.annotator.opponents = "jalign.data.tldr_world:archetypes"
  c.report = "jalign.configs.tldr_report:sections"
  c.sample.prompts = 500
  c.sample.eval_prompts = 256
  c.sample.best_of = 16
  return c
