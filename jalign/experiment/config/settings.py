"""The settings of a run and of its stages, as frozen dataclasses with defaults.

A run is a list of stages, `sft` and then `dpo` for example.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jalign.experiment.config.sections import (
  AnnotatorSettings,
  DataSettings,
  DiagnosticsSettings,
  DrawingSettings,
  MeshSettings,
  SamplerSettings,
  TokenizerSettings,
  UnfinishedSettings,
)
from jalign.models.lora import LoraConfig
from jalign.training.critic import CriticConfig
from jalign.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class SweepSettings:
  """Keys that make several runs of one config.

  Attributes:
    seeds: the config is run once with each of these seeds.
    sweep: keys and their values, (("loss.beta", (0.1, 0.3)),); the config is
      run for every combination of values. A flag may write {"loss.beta": (0.1,
      0.3)}.
  """

  seeds: tuple[int, ...] = ()
  sweep: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class StageSettings:
  """One stage of training.

  Attributes:
    name: the name of the stage and of its folder.
    loss: `name` and hyperparameters, {"name": "dpo", "beta": 0.1}; or a sum,
      `weights` by name, with the hyperparameters of a term under its name. The
      name is one that `python -m jalign.losses` lists, or FILE.py:NAME for a
      function of your own, for which `batch` (the kind of batch), `denominator`
      ("examples" or "tokens") and `coupled` (whether an example's loss depends
      on its batch) may stand beside hyperparameters. A stage with an algorithm
      takes only the hyperparameters of the algorithm's own loss.
    head: the score head that a loss on scores reads: its `name`, a row of
      `jalign.models.HEADS`, and its settings, {"name": "general", "width": 8}.
      {} takes the head that gives what the loss takes; other losses read no
      head.
    data: the data that this stage is trained on.
    start: the earlier stage from whose parameters this stage starts; those
      parameters are also its reference. "" is the stage before, "start" is the
      start of the run itself.
    judge: whether the report compares this stage with others; false for a stage
      that only prepares, such as a warm-up.
    optimizer: see OptimizerConfig.
    lora: see LoraConfig. With a rank, a low-rank change is trained and the
      stage's start stays as it is, shared with the reference.
    trainable: patterns of parameter paths, such as "blocks/*": only parameters
      that match a pattern are trained. () trains all.
    algorithm: "" for training on data; or a name in
      `jalign.online.ALGORITHMS`, which trains on the policy's own samples:
      "online_dpo", "online_ipo", "ipo_md", "nash_md" and others.
    algorithm_settings: hyperparameters of the algorithm beside its loss's, by
      name: `python -m jalign.online NAME` lists them. Among them are `samples`,
      the number of responses to a prompt where an algorithm lets it be chosen,
      and `passes` and `minibatches`, the updates that a step makes of its
      samples (see `jalign.online.Updates`).
    critic: see CriticConfig; of algorithms with a critic, such as "ppo".
    mix_ref: the reference's weight in an algorithm's geometric mixture of
      policy and reference, in [0, 1].
    drawing: see DrawingSettings.
    unfinished: see UnfinishedSettings.
    max_new_tokens: the most tokens of a response that an algorithm samples.
    slots: the number of responses that an algorithm decodes at a time: when one
      ends, the next prompt takes its place. 0 decodes all of a batch at once.
    judge_parts: the number of equal parts of a batch of prompts that an
      algorithm samples one after another: while the judge works on a part on
      the host, the devices sample the next. The responses stay the same.
    steps: the number of training steps; 0 counts `epochs` instead. A step is an
      update, or a batch of prompts with all the updates that an algorithm makes
      of it.
    epochs: the number of passes over the data, where `steps` is 0.
    batch_size: the number of examples (pairs, sequences or prompts) of an
      update.
    microbatches: the number of parts of a batch whose gradients are computed
      one after another and added up, to save memory.
    packing: the number of tokens of a row that several short sequences share,
      no fewer than the longest bucket, which is then the only bucket. 0 gives
      each sequence a row of its own. The examples of an update are the same.
    normalise_pairs: whether the gradients of a pair's two log-probs are divided
      by their norms, at the cost of another backward pass; see
      `jalign.diagnostics.normalised`.
    share_prefix: whether the responses to one prompt lie in one row, so that
      their common beginning is computed once. The setting changes nothing where
      a batch has one response to a prompt.
    reference: when the reference's log-probs are computed: in each "step", or
      by "precompute" once, into the run folder.
    offload: what waits in the host's memory until a program needs it, on
      devices that reach that memory: "optimizer", the moments between updates;
      "start", the parameters that the stage starts from, which are its
      reference. () keeps everything on the devices.
    eval_every: the number of steps between evaluations; 0 evaluates once, at
      the end.
    save_every: the number of steps between checkpoints; 0 saves once, at the
      end.
    save_minutes: minutes after which a checkpoint is saved even if `save_every`
      asks for none, at a step that ends a line of metrics (see `log_every`); 0
      looks at no clock.
    keep_newest: the number of newest checkpoints that are kept, 2 or more.
    keep_every: checkpoints whose step is a multiple of this number, itself a
      multiple of `save_every`, are kept for ever; 0 keeps none of them.
    log_every: the number of steps that a line of metrics averages over.
    select: the held-out metric whose best checkpoint the next stage starts
      from, such as "eval/loss"; "" takes the last checkpoint.
    select_mode: whether the best checkpoint has the "min" or the "max" of
      `select`.
    diagnostics: see DiagnosticsSettings.
  """

  name: str
  loss: Mapping[str, Any]
  head: Mapping[str, Any] = dataclasses.field(default_factory=dict)
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
  critic: CriticConfig = CriticConfig()
  mix_ref: float = 0.125
  drawing: DrawingSettings = DrawingSettings()
  unfinished: UnfinishedSettings = UnfinishedSettings()
  max_new_tokens: int = 64
  slots: int = 0
  judge_parts: int = 1
  steps: int = 0
  epochs: int = 1
  batch_size: int = 32
  microbatches: int = 1
  packing: int = 0
  normalise_pairs: bool = False
  share_prefix: bool = False
  reference: str = "step"
  offload: tuple[str, ...] = ()
  eval_every: int = 0
  save_every: int = 0
  save_minutes: float = 0.0
  keep_newest: int = 2
  keep_every: int = 0
  log_every: int = 10
  select: str = ""
  select_mode: str = "min"
  diagnostics: DiagnosticsSettings = DiagnosticsSettings()

  @property
  def samples(self) -> bool:
    """Whether the stage trains on judged samples of the policy."""
    return bool(self.algorithm)


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run.

  Attributes:
    seed: the seed of everything random but the choice of held-out prompts.
    title: the first line of the report.
    init_from: the start of the run: the folder of another run, or a Hugging
      Face checkpoint (a folder, or a name on the hub), with its model,
      tokenizer and parameters; "" starts afresh. A checkpoint's numbers are
      converted to model.dtype and model.param_dtype.
    data: the data that is held out and judged, and that stages without data of
      their own are trained on.
    tokenizer: see TokenizerSettings.
    model: fields of ModelConfig but vocab_size, which the tokenizer gives.
    mesh: see MeshSettings.
    sample: see SamplerSettings.
    annotator: see AnnotatorSettings.
    wandb_project: the project of Weights & Biases to log to as well, where
      wandb is installed; "" for none.
    report: the function `(Outcome) -> sections` that adds to the report (see
      `jalign.experiment.run_report.Outcome`), "FILE.py:NAME" or
      "package.module:NAME"; "" for none.
    stages: the names of the stages, in their order. The top level of the config
      describes the last stage; an earlier stage has a section of its name for
      the keys that differ there.
    resume: "anyway" goes on with a run although something has changed that no
      trained parameter comes from, such as the report's function or the
      held-out data, and notes that in made_of.json; "" refuses to.
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
    """Returns the stage of that name."""
    return next(stage for stage in self.stages if stage.name == name)

  @property
  def starts(self) -> dict[str, str]:
    """Maps stages to the policies they start from: a stage, or "start"."""
    before, starts = "start", {}
    for stage in self.stages:
      starts[stage.name] = stage.start or before
      before = stage.name
    return starts
