"""Sections of a config, as frozen dataclasses with their defaults."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataSettings:
  """Where records come from and how they become tokens.

  Attributes:
    source: the shape of the rows, a name in `jalign.data.SOURCES`: "jsonl" for
      pairs, "ranked", "binary", "demonstrations", "prompts" and others.
    path: the file or folder to read, or "tfds:NAME[/CONFIG][:SPLIT]".
    convert: the name of a conversion in `jalign.data.CONVERSIONS`, such as
      "best_and_worst", which makes pairs of ranked lists; "" for none.
    context: a text file: what a teacher reads before each prompt of
      demonstrations, and the student doesn't, for losses on distributions. ""
      for none; columns={"context": COLUMN} gives each record its own.
    template: how conversations are written: "plain", "tokenizer" for the chat
      template of `tokenizer.path`, the folder of another tokenizer, or a file
      of Jinja; "" for data without messages.
    columns: the files' names for the source's fields: {"prompt": "question"}
      in a config, prompt=question in a flag. "a.b" is the field b of the
      object a.
    judge_columns: other columns of the files that judges get with a response.
      With ("answer", "tests") a judge gets the row {"answer": ..., "tests":
      ...}, with None for columns that a record lacks; "a.b" is the field b of
      the object a. The columns are read from all data whose prompts are
      sampled.
    data_dir: the folder of prepared TFDS data; "" for TFDS's own.
    on_error: what happens at a record that can't be read: "error" stops the
      run, "skip" counts and lists the record; "" leaves this to the source.
    eval_path: a file or folder with the held-out records, read as `path` is.
      All of `path` is then trained on, and held-out prompts that are also
      trained on are counted. "" holds out a part of `path`.
    eval_fraction: the share of the prompts to hold out where there is no
      `eval_path`.
    split_seed: the seed that chooses which prompts are held out. It isn't the
      run's seed, so that runs of several seeds, and runs that start from each
      other, hold out the same prompts.
    max_prompt_tokens: the most tokens of a prompt: the first tokens of a longer
      prompt are cut off, and such prompts are counted.
    max_response_tokens: the most tokens of a response: the last tokens of a
      longer response are cut off, and such responses are counted.
    buckets: lengths in tokens to which sequences are padded, ascending.
  """

  source: str = "jsonl"
  path: str = ""
  convert: str = ""
  context: str = ""
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
  """The tokenizer, which is loaded or trained on the training records.

  Attributes:
    path: the folder of a tokenizer; "" trains one.
    kind: the tokenizer to train: "bpe" on bytes; or "words" for small
      languages, with every word of the data, held-out records included.
    vocab_size: the number of tokens of a "bpe" that is trained.
  """

  path: str = ""
  kind: str = "bpe"
  vocab_size: int = 4096


@dataclasses.dataclass(frozen=True)
class MeshSettings:
  """How many devices lie along each axis of the mesh.

  Attributes:
    data: copies of the model, between which a batch is divided; -1 takes all
      devices that the other axes leave.
    fsdp: devices that the parameters and the batch are divided between.
    tensor: devices that the heads and the widths of layers are divided between.
    decode_tensor: as `tensor`, while responses are sampled: the same devices
      then divide layers between so many of them, and responses between groups
      of them. So a large model can be trained with tensor=1, where sampling
      would need a whole copy of the model on each device. 0 for `tensor`.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  decode_tensor: int = 0

  @property
  def sizes(self) -> tuple[int, int, int]:
    """The sizes of the axes data, fsdp and tensor."""
    return self.data, self.fsdp, self.tensor


@dataclasses.dataclass(frozen=True)
class DrawingSettings:
  """How the responses that an algorithm trains on are sampled.

  The gradient of an online loss is that of the policy's own distribution: with
  other values than these defaults it is biased, unless the algorithm weighs the
  samples (`importance_cap`).

  Attributes:
    temperature: the number that logits are divided by, > 0.
    top_k: the number of likeliest tokens to draw among; 0 for all tokens.
    top_p: the total probability of the likeliest tokens to draw among; 1 for
      all tokens.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0


@dataclasses.dataclass(frozen=True)
class UnfinishedSettings:
  """The reward of responses that an algorithm's length limit has cut off.

  Their share is 1 - `rollouts/finished_share`. Rewards are changed before
  preferences follow from them and before an algorithm sees them.

  Attributes:
    replace: whether `reward` stands in place of the annotator's reward. The
      zero of the annotator's rewards then matters.
    reward: the fixed reward, if it does.
    penalty: a number that is subtracted from their reward, >= 0.
  """

  replace: bool = False
  reward: float = -1.0
  penalty: float = 0.0


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
  """How held-out responses are sampled, for evaluation and for the report.

  Attributes:
    prompts: the number of held-out prompts to sample for.
    eval_prompts: the number of prompts at evaluations while an online stage
      trains; 0 for as many as `prompts`.
    per_prompt: K, the number of responses to each prompt.
    best_of: the n of a best-of-n policy that the report compares with: of n
      responses of the policy that the last stage starts from, the annotator
      chooses one. 0 for no such policy.
    max_new_tokens: the most tokens of a response.
    temperature: the number that logits are divided by; 0 takes the likeliest
      token.
    top_k: the number of likeliest tokens to draw among; 0 for all tokens.
    top_p: the total probability of the likeliest tokens to draw among; 1 for
      all tokens.
    min_p: tokens less likely than this share of the likeliest token aren't
      drawn; 0 for all tokens.
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
    """Whether samples are drawn from the model's own distribution.

    Only then do their log-ratios average to a KL divergence.
    """
    own = SamplerSettings()
    return all(
      getattr(self, name) == getattr(own, name)
      for name in ("temperature", "top_k", "top_p", "min_p")
    )


@dataclasses.dataclass(frozen=True)
class AnnotatorSettings:
  """Who judges responses: functions, reward models, language models and others.

  Functions are named "FILE.py:NAME" or "package.module:NAME"; "" for none.

  Attributes:
    function: what judges responses, as `kind` says: mostly a function, or the
      folder of a model.
    kind: a row of `jalign.experiment.judges.JUDGES`. Forms of a function:
      "reward" for `(prompt, response) -> number`,
      "rewards" for `(prompts, responses, rows) -> [N]`, "preference" for
      `(prompt, a, b) -> P(a is preferred)`, "batch" for a preference on lists
      of N texts, giving [N]; "judge" for a function without arguments that
      gives a `jalign.feedback.Judge`, such as a model that reads tokens. A
      reward may take a third argument, the row of data.judge_columns. "model":
      a run or a checkpoint of a reward or preference model, or several of them
      with commas between. `jalign judge kinds` lists
      all kinds.
    settings: settings of the judge's kind, by name.
    cost: a function `(prompt, response) -> number`, or one that takes the row,
      too. The lower, the better; reports show costs beside the numbers of
      `function`.
    scale: the factor on a reward's differences in the Bradley-Terry
      preferences that are made of them. A "judge" has a scale of its own.
    gold: another judge, which only measures: `function`, `kind`, `scale` and
      `settings` of its own. Where a stage learns from a learned judge, win
      rates and rewards under the gold judge stand beside those of `function`,
      with how often the two agree. {} for none.
    measures: a function `(prompts, responses) -> {name: [N] numbers}` that
      measures held-out samples; the means are reported. A name that ends in "%"
      is a share in per cent.
    opponents: a function `(prompts) -> {name: responses}` of fixed contestants
      in the held-out win matrix.
  """

  function: str = ""
  kind: str = "reward"
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  cost: str = ""
  scale: float = 1.0
  gold: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  measures: str = ""
  opponents: str = ""


@dataclasses.dataclass(frozen=True)
class DiagnosticsSettings:
  """What is measured while a stage trains, beside its loss.

  A probe looks at the first held-out pairs, always the same ones.

  Attributes:
    entanglement: which log-probs a step moves. "probe" measures every gradient
      of the probe's pairs, a forecast from the loss's derivatives, and the
      effect of the step; "step" measures the last layer's part on every
      training batch, for a few per cent of a step's time; "both" does both; ""
      does neither.
    likelihood: "probe" measures log-ratios, displacement, rankings and
      calibration; "" doesn't.
    policy: "probe" measures the indicators of over-optimisation and the KL
      divergence; "" doesn't.
    pairs: the number of held-out pairs of the probe.
    every: the number of steps between two probes; 0 for `eval_every`.
    groups: patterns of parameter paths, such as "blocks/*": their part of the
      gradients is measured beside that of all parameters.
    top_k: the number of likeliest tokens that the indicators look at.
    samples: the number of held-out prompts to sample one response to, for the
      samples' KL, lengths, win rate and the annotator's measures; 0 for none.
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
