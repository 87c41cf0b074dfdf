"""Reward and preference models with what belongs to them, from disk.

A scorer is a model with a score head, from the folder of a run whose last stage
trained a head, or from a checkpoint that classifies texts.
"""

import functools
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
from jalign.experiment.heads import form_of, head_of, reads_head
from jalign.experiment.loss import bind
from jalign.experiment.params import trained_params
from jalign.models import ModelConfig, hf, last_hidden, scalar, transformer
from jalign.sharding import fetch, make_mesh, place
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Array, Model, Params, Sequences

CONSTANT = "reward_constant"  # of results.json
_SHORTEST = 32  # tokens of the shortest bucket; each other bucket doubles


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
    ("reward",), ("preference",), or () for a head that knows the rater.
  """
  if is_checkpoint(folder):
    kept = folder / "jalign_head.json"
    form = folders.read_json(kept).get("form", "") if kept.is_file() else ""
    return ("preference",) if form else ("reward",)
  settings = parse(folders.read_json(folder / "config.json"))
  stage = settings.stage(folders.last_stage(folder).name)
  if form_of(bind(stage)):
    return ("preference",)
  head = head_of(folders.model_of(folder), stage)
  scores = (getattr(head, name, None) for name in ("score", "scores"))
  return ("reward",) if any(scores) else ()


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
  return Scorer(
    str(folder),
    config,
    transformer(config),
    trained_params(config, mesh, stage),
    head_of(config, settings.stage(stage.name)),
    tokenizer,
    template_for("", folder),
    tuple(told.get("objectives", ())),
    form_of(bind(settings.stage(stage.name))),
    float(told.get(CONSTANT, 0.0)),
  )


def _of_checkpoint(folder: pathlib.Path, mesh: jax.sharding.Mesh) -> Scorer:
  tokenizer = data.load(folder)
  check_vocabulary(tokenizer, hf.read_config(folder), str(folder))
  config, params, head = hf.load_reward_model(folder, mesh=mesh)
  template = template_for("", folder)
  after: list[int] = []
  if template is not None and template.end:
    tail = template.tail.strip(" ").partition(template.end)[2]
    after = tokenizer.encode(tail) if tail else []
  return Scorer(
    str(folder),
    config,
    transformer(config),
    {MODEL: params, HEAD: head},
    scalar(config.hidden_size),
    tokenizer,
    template,
    after=tuple(after),
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

  Sequences are sorted by length into buckets of rows, so that there are few
  shapes to compile for and little padding.

  Args:
    scorer: the scorer.
    sequences: N sequences of ids; scores are read at their last tokens.
    mesh: the mesh that the scorer's parameters lie on.
    rows: number of rows of a batch, rounded up to what the mesh divides.
  """
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  rows = -(-rows // ways) * ways
  lengths = [data.sequence_length(x) + len(scorer.after) for x in sequences]
  buckets = [_SHORTEST]
  while buckets[-1] < max(lengths):
    buckets.append(2 * buckets[-1])
  read = _reader(scorer.model)
  out = np.zeros((len(lengths), scorer.config.hidden_size), np.float32)
  for batch in data.plan(lengths, rows, tuple(buckets), shuffle=False):
    some = [_closed(sequences[i], scorer.after) for i in batch.examples]
    record = data.collate_sequences(
      some, rows, batch.length, pad_id=scorer.tokenizer.pad_id
    )
    with jax.set_mesh(mesh):
      at = read(scorer.params[MODEL], place(record, mesh).sequences)
    out[list(batch.examples)] = fetch(at)[: len(some)]
  return out


@functools.lru_cache(maxsize=8)
def _reader(model: Model) -> Any:
  """The jitted `(params, sequences) -> [B, D]` states of last tokens."""

  @jax.jit
  def read(params: Params, sequences: Sequences) -> Array:
    hidden = model.forward(params, sequences.tokens)
    return last_hidden(hidden, sequences).astype(jax.numpy.float32)

  return read


def _closed(sequence: Any, after: Sequence[int]) -> data.EncodedSequence:
  """The sequence with some more tokens at its end, which aren't scored."""
  if not after:
    return sequence
  ids = np.concatenate([sequence.ids, np.array(after, np.int32)])
  mask = np.concatenate([sequence.mask, np.zeros(len(after), bool)])
  return data.EncodedSequence(ids, mask, sequence.source)
