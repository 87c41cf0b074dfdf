"""Reward and preference models with what belongs to them, from disk.

A scorer is a model with a score head, from the folder of a run whose last stage
trained a head, or from a checkpoint that classifies texts.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.kept import template_for
from jalign.experiment.disk.start import (
  check_vocabulary,
  is_checkpoint,
  is_reward_model,
)
from jalign.experiment.heads import form_of, head_of, reads_head, sign_of
from jalign.experiment.last_states import last_states
from jalign.experiment.loss import bind
from jalign.experiment.params import trained_params
from jalign.models import ModelConfig, hf, transformer
from jalign.sharding import make_mesh
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Model, Params

CONSTANT = "reward_constant"  # of results.json


class Scorer(NamedTuple):
  """A model that scores responses, with what belongs to it.

  Attributes:
    name: the folder that the scorer was loaded from.
    config: config of the model.
    model: the model's functions.
    params: {"model": ..., "head": ...}.
    head: functions of the head; see `jalign.models.ScoreHead`.
    tokenizer: the model's tokenizer.
    template: chat template of the model; None without one.
    names: names of the numbers that the head's `scores` gives; () where the
      head gives no such numbers.
    form: form of the head's preferences, a key of
      `jalign.models.preferences.FORMS`; "" where the head gives rewards.
    constant: number that is subtracted from every score of the head's `score`.
    after: ids that follow a response's end, as a checkpoint's template writes
      them; () for runs, whose responses end with their end token.
    padding: token that isn't read at a response's end, as in
      `jalign.models.hf.StoredHead`; None for runs.
    sign: -1 where a lower score is better, as of a run that trained a cost
      model; checkpoints don't say that, and have 1.
  """

  name: str
  config: ModelConfig
  model: Model
  params: Params
  head: Any
  tokenizer: data.Tokenizer
  template: data.ChatTemplate | None
  names: tuple[str, ...] = ()
  form: str = ""
  constant: float = 0.0
  after: tuple[int, ...] = ()
  padding: int | None = None
  sign: float = 1.0


def is_scorer(folder: pathlib.Path) -> bool:
  """Whether a folder is a reward model's: of a run, or of a checkpoint."""
  if is_checkpoint(folder):
    return is_reward_model(folder)
  if not (folder / "config.json").is_file():
    return False
  settings = parse(folders.read_json(folder / "config.json"))
  return reads_head(settings.stage(folders.last_stage(folder).name))


def gives_at(folder: pathlib.Path) -> tuple[str, ...]:
  """What a scorer gives a judge, without loading its parameters.

  Returns:
    ("reward",), ("cost",), ("preference",), or () for a head that knows the
    rater.
  """
  if is_checkpoint(folder):
    form = hf.read_reward_head(folder).form
    return ("preference",) if form else ("reward",)
  settings = parse(folders.read_json(folder / "config.json"))
  stage = settings.stage(folders.last_stage(folder).name)
  loss = bind(stage)
  if form_of(loss):
    return ("preference",)
  head = head_of(folders.model_of(folder), stage)
  scores = (getattr(head, name, None) for name in ("score", "scores"))
  if not any(scores):
    return ()
  return ("cost",) if sign_of(loss) < 0 else ("reward",)


def load_scorer(name: str, mesh: jax.sharding.Mesh | None = None) -> Scorer:
  """Loads a scorer onto a mesh.

  Args:
    name: folder of a run or a checkpoint, or a checkpoint's name on the hub.
    mesh: the mesh to load onto; None for one of all devices.

  Raises:
    UserError: the folder holds no reward model, or can't be read.
  """
  folder, mesh = hf.resolve(name), make_mesh() if mesh is None else mesh
  if not is_scorer(folder):
    raise UserError(
      "the folder holds a language model, without a score head.",
      where=str(folder),
      remedy="Name a run that trained a reward model, such as one of"
      " --config=reward_model, or a checkpoint of"
      " AutoModelForSequenceClassification.",
    )
  load = _of_checkpoint if is_checkpoint(folder) else _of_run
  return load(folder, mesh)


def _of_run(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Scorer:
  config, stage = folders.model_of(folder), folders.last_stage(folder)
  settings = parse(folders.read_json(folder / "config.json"))
  results = stage / "results.json"
  if not results.exists():
    raise UserError(
      f"the run's stage {stage.name} isn't finished.",
      where=str(folder),
      remedy="Finish that run first: the same command resumes it.",
    )
  tokenizer = data.load(folder / "tokenizer")
  check_vocabulary(tokenizer, config, str(folder))
  told = folders.read_json(results)
  params = trained_params(config, mesh, stage)
  head = head_of(config, settings.stage(stage.name))
  loss = bind(settings.stage(stage.name))
  return Scorer(
    str(folder),
    config,
    transformer(config),
    params,
    head,
    tokenizer,
    template_for("", folder),
    tuple(told.get("objectives", ())) or _numbered(config, head, params),
    form_of(loss),
    float(told.get(CONSTANT, 0.0)),
    sign=sign_of(loss),
  )


def _numbered(
  config: ModelConfig, head: Any, params: Params
) -> tuple[str, ...]:
  """Names of a head's scores that have no names; () for other heads."""
  if getattr(head, "scores", None) is None:
    return ()
  states = jax.ShapeDtypeStruct((1, config.hidden_size), "float32")
  shape = jax.eval_shape(head.scores, params[HEAD], states).shape
  return tuple(f"objective_{i + 1}" for i in range(shape[1]))


def _of_checkpoint(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Scorer:
  tokenizer = data.load(folder)
  check_vocabulary(tokenizer, hf.read_config(folder), str(folder))
  config, params, head = hf.load_reward_model(folder, mesh=mesh)
  template = template_for("", folder)
  after: list[int] = []
  if template is not None and template.end and head.tail:
    tail = template.tail.strip(" ").partition(template.end)[2]
    after = tokenizer.encode(tail) if tail else []
  functions = head.functions(config.hidden_size)
  return Scorer(
    str(folder),
    config,
    transformer(config),
    {MODEL: params, HEAD: head.params},
    functions,
    tokenizer,
    template,
    head.names if functions.scores is not None else (),
    head.form,
    after=tuple(after),
    padding=head.padding,
  )


def encode(
  scorer: Scorer, prompts: Sequence[str], texts: Sequence[str]
) -> list[data.EncodedSequence]:
  """Encodes texts as the scorer reads them; nothing is cut.

  A prompt is the only turn of its user where the scorer has a chat template.

  Args:
    scorer: the scorer.
    prompts: N texts.
    texts: N responses.
  """
  records, template = [], scorer.template
  for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
    where, end = f"response {i}", None
    if template is not None and not template.plain:
      turns = [{"role": "user", "content": prompt}]
      said = [{"role": "assistant", "content": text}]
      prompt, text = template.exchange(turns, said)
      end = template.end
    records.append(
      data.DemonstrationRecord(prompt, text, where, where, end=end)
    )
  limits = data.Limits(max_tokens=2**30)
  return data.encode_demonstrations(records, scorer.tokenizer, limits)[0]


def features(
  scorer: Scorer,
  sequences: Sequence[data.EncodedSequence],
  mesh: jax.sharding.Mesh,
  rows: int = 64,
) -> np.ndarray:
  """[N, D] states of the last tokens of N sequences, which heads read.

  The responses to one prompt are read in one row, where that is less work.

  Args:
    scorer: the scorer.
    sequences: N sequences of ids; scores are read at their last tokens.
    mesh: the mesh that the scorer's parameters lie on.
    rows: number of sequences of a batch, rounded up to what the mesh divides.
  """
  return last_states(
    scorer.model,
    scorer.params[MODEL],
    scorer.config,
    [_closed(sequence, scorer.after) for sequence in sequences],
    mesh,
    rows=rows,
    pad_id=scorer.tokenizer.pad_id,
    padding=scorer.padding,
  )[0]


def _closed(sequence: Any, after: Sequence[int]) -> data.EncodedSequence:
  """The sequence with some more tokens at its end, which aren't scored."""
  if not after:
    return sequence
  ids = np.concatenate([sequence.ids, np.array(after, np.int32)])
  mask = np.concatenate([sequence.mask, np.zeros(len(after), bool)])
  return data.EncodedSequence(ids, mask, sequence.source)
