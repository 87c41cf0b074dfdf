"""What a run can be told, as frozen dataclasses with their defaults.

A run is a list of stages, `sft` and then `dpo` for example.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jalign.models.lora import LoraConfig
from jalign.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class DataSettings:
  """Where preference pairs come from and how they become tokens.

  Attributes:
    source: name of a reader in `jalign.data.SOURCES`.
    path: file or folder to read, or "tfds:NAME[/CONFIG][:SPLIT]".
    convert: name of a conversion in `jalign.data.CONVERSIONS`, such as
      "best_and_worst" for pairs out of ranked lists; "" for none.
    template: how conversations are written: "plain", "tokenizer" for the
      template of `tokenizer.path`, another tokenizer's folder, or a file of
      Jinja; "" for data without messages.
    columns: names that the files have for the source's fields, in a config
      {"prompt": "question"}; "a.b" is b of the object a.
    judge_columns: other columns of the files, ("answer", "tests") say, that
      judges get with a response, as a row {"answer": ..., "tests": ...}: None
      where a row lacks one. "a.b" is b of the object a. They are read where
      prompts are sampled: of the run's own data and of an online stage's.
    data_dir: folder of prepared TFDS data; "" is TFDS's own.
    on_error: "error" stops at a bad record, "skip" counts and lists it; ""
      is the source's own policy.
    eval_path: file or folder with the held-out records, read as `path` is;
      then `path` is trained on whole, and held-out prompts that are trained on
      are counted and said. "" holds out a part of `path`.
    eval_fraction: share of the prompts held out, where there is no `eval_path`.
    split_seed: of the choice of prompts to hold out. It isn't the run's seed:
      runs of several seeds, and runs that start from each other, hold out the
      same prompts.
    max_prompt_tokens: older tokens of a longer prompt are cut, and counted.
    max_response_tokens: later tokens of a longer response are cut, and
      counted.
    buckets: padded lengths in tokens, ascending.
  """

  source: str = "jsonl"
  path: str = ""
  convert: str = ""
  template: str = ""
  columns: tuple[tuple[str, str], ...] = ()
  judge_columns: tuple[str, ...] = ()
  data_dir: str = ""
  on_error: str = ""
  eval_path: str = ""
  eval_fraction: float = 0.1
  split_seed: int = 0
  max_prompt_tokens: int = 128
  max_response_tokens: int = 128
  buckets: tuple[int, ...] = (64, 128, 256)


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
  """A folder to load, or what to train on the training splits.

  Attributes:
    path: folder with a tokenizer; "" trains one.
    kind: of the trained one: "bpe" on bytes, or "words" for small languages:
      every word of the data, the held-out part included.
    vocab_size: of a trained BPE.
  """

  path: str = ""
  kind: str = "bpe"
  vocab_size: int = 4096


@dataclasses.dataclass(frozen=True)
class MeshSettings:
  """Devices along each axis; data=-1 takes the rest."""

  data: int = -1
  fsdp: int = 1
  tensor: int = 1


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
  """How samples are drawn for held-out evaluation and the report.

  Attributes:
    prompts: held-out prompts to sample for.
    eval_prompts: the same while an online stage trains; 0 for as many.
    per_prompt: samples of each, K.
    max_new_tokens: of a response at most.
    temperature: 0 is greedy.
    top_k: 0 keeps all.
    top_p: 1 keeps all.
    min_p: 0 keeps all.
    best_of: n of best-of-n of the policy that the last stage starts from,
      chosen by the annotator; 0 for none.
  """

  prompts: int = 64
  eval_prompts: int = 0
  per_prompt: int = 1
  best_of: int = 0
  max_new_tokens: int = 64
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0

  @property
  def plain(self) -> bool:
    """Whether samples have the model's own law: then log-ratios average to a
    KL divergence."""
    own = SamplerSettings()
    return all(
      getattr(self, name) == getattr(own, name)
      for name in ("temperature", "top_k", "top_p", "min_p")
    )


@dataclasses.dataclass(frozen=True)
class AnnotatorSettings:
  """Who judges: Python functions of texts.

  Each is named as "file.py:name" or "package.module:name"; "" for none.

  Attributes:
    function: the annotator.
    kind: "reward" for `(prompt, response) -> float`, "rewards" for
      `(prompts, responses, rows) -> [N]`, "preference" for `(prompt, a, b) ->
      P(a is preferred)`, "batch" for the same on lists of N texts, giving [N];
      "judge" for a function without arguments that gives a
      `jalign.feedback.Judge`, such as a model that reads tokens. A reward may
      take a third argument: the row of data.judge_columns.
    cost: `(prompt, response) -> float` or `(prompt, response, row) -> float`,
      lower is better, told of beside the function's rewards or preferences.
    scale: of a reward's Bradley-Terry preferences; a "judge" has its own.
    measures: `(prompts, responses) -> {name: [N] numbers}`, what else is
      measured on held-out samples: their means are reported. A name that ends
      in "%" is a share in per cent.
    opponents: `(prompts) -> {name: responses}`, fixed contestants of the
      held-out win matrix.
  """

  function: str = ""
  kind: str = "reward"
  cost: str = ""
  scale: float = 1.0
  measures: str = ""
  opponents: str = ""


@dataclasses.dataclass(frozen=True)
class DiagnosticsSettings:
  """What is measured while a stage trains, beside its loss.

  A probe looks at the first held-out pairs, always the same.

  Attributes:
    entanglement: which log-probs a step moves. "probe" has every gradient of
      the probe's pairs, a forecast by the loss's pulls and what the step then
      did; "step" the last layer's part, of every training batch, for a few per
      cent of a step; "both"; "" nothing.
    likelihood: "probe" for log-ratios, displacement, rankings and calibration.
    policy: "probe" for the indicators of over-optimisation and the KL.
    pairs: of the probe.
    every: steps between two probes; 0 as `eval_every`.
    groups: patterns of paths of parameters, as "blocks/*", whose part of the
      gradients is measured beside that of all.
    top_k: of the indicators.
    samples: held-out prompts to sample for, one response each: their KL,
      lengths, win rate and whatever the annotator measures; 0 for none.
  """

  entanglement: str = ""
  likelihood: str = ""
  policy: str = ""
  pairs: int = 32
  every: int = 0
  groups: tuple[str, ...] = ()
  top_k: int = 10
  samples: int = 0

  @property
  def probes(self) -> bool:
    """Whether anything is measured on the probe's pairs."""
    return bool(
      self.entanglement in ("probe", "both") or self.likelihood or self.policy
    )


@dataclasses.dataclass(frozen=True)
class SweepSettings:
  """Keys that make several runs of one config.

  Attributes:
    seeds: seeds to run the config with, one after another.
    sweep: pairs of a key and its values, (("loss.beta", (0.1, 0.3)),): a run
      for each combination of values. A flag may write
      {"loss.beta": (0.1, 0.3)}.
  """

  seeds: tuple[int, ...] = ()
  sweep: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class StageSettings:
  """One stage of training.

  Attributes:
    name: of the stage and its folder.
    start: earlier stage whose parameters this one starts from; they are also
      its reference. "" takes the stage before, "start" what the run itself
      starts from.
    data: what this stage is trained on.
    judge: whether the report compares this stage with others; False for
      one that only prepares, such as a warm-up.
    loss: `name` and hyperparameters; or a sum, `weights` by name, with the
      hyperparameters of a term under its name. An algorithm has a loss of its
      own and takes only its hyperparameters.
    algorithm: "" for offline training, else a row of `ALGORITHMS`.
    algorithm_settings: hyperparameters of the algorithm beside its loss's, by
      name; among them `passes` and `minibatches`, the updates of a step (see
      `jalign.online.Updates`).
    mix_ref: weight of the reference in an algorithm's mixture, in [0, 1].
    max_new_tokens: of a response that an algorithm samples, at most.
    slots: responses that an algorithm decodes at a time: a row that ends takes
      the next prompt; 0 decodes all of a batch at once.
    optimizer: see OptimizerConfig.
    lora: see LoraConfig; with a rank, a low-rank change is trained and the
      stage's start stays as it is, shared with the reference.
    trainable: patterns of paths of parameters, as "blocks/*": the others stay
      as they are. () trains all.
    steps: of training; 0 counts `epochs` instead. A step is an update, or a
      batch of prompts with all the updates that an algorithm makes of it.
    epochs: passes over the data, where steps is 0.
    batch_size: examples (pairs, sequences or prompts) of an update.
    microbatches: parts of a batch that are accumulated.
    packing: tokens of a row that several short sequences share, no fewer than
      the longest bucket, which is then the only one; 0 gives each a row of its
      own. The examples of an update are the same.
    normalise_pairs: divides the gradients of a pair's two log-probs by their
      norms, one by one, at the cost of another backward pass: see
      `diagnostics.normalised`, our reading of a remedy.
    share_prefix: the responses to one prompt are in one row, and what they all
      begin with, the prompt above all, is computed once. It changes nothing
      where a batch has one response to a prompt.
    reference: "step" scores the reference in each step, "precompute" once,
      into the run folder.
    eval_every: steps between evaluations, 0 for the end alone.
    save_every: steps between checkpoints, 0 for the end alone.
    log_every: steps averaged in one line of metrics.
    select: held-out metric whose best checkpoint the next stage starts from;
      "" takes the last.
    select_mode: "min" or "max".
    diagnostics: see DiagnosticsSettings.
  """

  name: str
  loss: Mapping[str, Any]
  data: DataSettings = DataSettings()
  start: str = ""
  judge: bool = True
  optimizer: OptimizerConfig = OptimizerConfig()
  lora: LoraConfig = LoraConfig()
  trainable: tuple[str, ...] = ()
  algorithm: str = ""
  algorithm_settings: Mapping[str, Any] = dataclasses.field(
    default_factory=dict
  )
  mix_ref: float = 0.125
  max_new_tokens: int = 64
  slots: int = 0
  steps: int = 0
  epochs: int = 1
  batch_size: int = 32
  microbatches: int = 1
  packing: int = 0
  normalise_pairs: bool = False
  share_prefix: bool = False
  reference: str = "step"
  eval_every: int = 0
  save_every: int = 0
  log_every: int = 10
  select: str = ""
  select_mode: str = "min"
  diagnostics: DiagnosticsSettings = DiagnosticsSettings()

  @property
  def samples(self) -> bool:
    """Whether the policy's own samples are trained on, and judged."""
    return bool(self.algorithm)


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run.

  Attributes:
    seed: of everything random.
    title: first line of the report.
    init_from: run folder, or Hugging Face checkpoint (a folder, or a name on
      the hub), whose model, tokenizer and parameters to start from; "" starts
      afresh. A checkpoint's numbers are converted to model.dtype and
      model.param_dtype.
    model: fields of ModelConfig but vocab_size, which the tokenizer gives.
    data: of the run: what is held out and judged, and what a stage is
      trained on unless it has data of its own.
    wandb_project: also log to Weights & Biases, where it is installed.
    report: "file.py:name" or "package.module:name" of a function
      `(experiment.report.Outcome) -> sections` that adds to the report.
    resume: "anyway" goes on with a run although something has changed since
      that no trained parameter comes from, such as the function of the report
      or the held-out data, and keeps that in made_of.json; "" doesn't.
  """

  seed: int
  title: str
  init_from: str
  data: DataSettings
  tokenizer: TokenizerSettings
  model: Mapping[str, Any]
  mesh: MeshSettings
  sample: SamplerSettings
  annotator: AnnotatorSettings
  wandb_project: str
  report: str
  stages: tuple[StageSettings, ...]
  resume: str = ""

  def stage(self, name: str) -> StageSettings:
    """The stage of that name."""
    return next(stage for stage in self.stages if stage.name == name)

  @property
  def starts(self) -> dict[str, str]:
    """Stage -> the policy that it starts from: a stage, or "start"."""
    before, starts = "start", {}
    for stage in self.stages:
      starts[stage.name] = stage.start or before
      before = stage.name
    return starts
