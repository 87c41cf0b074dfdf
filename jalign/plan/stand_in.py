"""Stand-ins for a run's data, tokenizer and parameters: sizes without contents.

Batches are made by the run's own loader of made-up examples, so that their
shapes are the run's.
"""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.experiment.config.settings import (
  DataSettings,
  Settings,
  StageSettings,
)
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import is_checkpoint, model_config
from jalign.experiment.heads import HEADS
from jalign.experiment.loss import BoundLoss
from jalign.experiment.params import layout
from jalign.losses.signature import hyperparameters
from jalign.models import ModelConfig, hf, transformer
from jalign.sharding import laid
from jalign.training.kinds import RECORDS, Kind
from jalign.types import Params

RESPONSES = 4  # of each made-up list; only data say how many a run has


class Words(NamedTuple):
  """What a program needs of a tokenizer, in the place of one.

  Attributes:
    vocab_size: number of tokens.
    end_ids: ids that end a response.
    pad_id: id that fills rows.
  """

  vocab_size: int
  end_ids: tuple[int, ...] = (1,)
  pad_id: int = 0

  def decode(self, ids: Any) -> str:
    """A text, which nobody reads."""
    del ids
    return ""


def tokenizer(vocab_size: int) -> data.Tokenizer:
  """A stand-in for a tokenizer of so many tokens."""
  return cast(Any, Words(vocab_size))


def model_of(settings: Settings) -> ModelConfig:
  """The model of a run, without its data.

  A tokenizer that the run would train counts as full: it has as many tokens as
  `tokenizer.vocab_size` says.

  Raises:
    UserError: the config lacks a size, or contradicts what the run starts from;
      or the tokenizer lists the words of data, which aren't read here.
  """
  given = settings.tokenizer
  if settings.init_from:
    base = hf.resolve(settings.init_from, weights=False)
    there = (
      hf.read_config(base) if is_checkpoint(base) else folders.model_of(base)
    )
    return model_config(settings, tokenizer(there.vocab_size), base)
  if given.path:
    return model_config(settings, data.load(given.path), None)
  if given.kind != "bpe":
    raise UserError(
      "the number of words is known only once the data are read.",
      where="config.tokenizer.kind",
      remedy="Plan with --config.tokenizer.kind=bpe and the number of words as"
      " --config.tokenizer.vocab_size=N.",
    )
  return model_config(settings, tokenizer(given.vocab_size), None)


def parameters_of(model: ModelConfig, mesh: jax.sharding.Mesh) -> Params:
  """Shapes and shardings of a model's parameters."""
  shapes = jax.eval_shape(transformer(model).init, jax.random.key(0))
  return laid(shapes, layout(model, mesh))


def dataset_of(stage: StageSettings, loss: BoundLoss, rows: int) -> Dataset:
  """Made-up data of one batch, whose examples fill the longest bucket.

  Args:
    stage: the stage's settings.
    loss: the stage's loss.
    rows: number of examples.
  """
  kind = _records(stage.data, loss.batch)
  prompt, response = widths(stage.data)
  ids = lambda n: np.full(n, 2, np.int32)
  make = _MAKERS.get(kind, _prompts_alone)
  examples: list[Any] = [
    make(ids(prompt), ids(response), f"made up:{i}") for i in range(rows)
  ]
  if loss.batch.head and kind in ("pairs", "ratings"):
    field = "objectives" if kind == "pairs" else "ratings"
    named = dict.fromkeys(_names(stage), 1.0)
    examples = [dataclasses.replace(e, **{field: named}) for e in examples]
  if stage.samples:
    prompt = stage.data.max_prompt_tokens
  prompts = [
    data.EncodedPrompt(ids(prompt), "", f"made up:{i}", "") for i in range(rows)
  ]
  return Dataset(
    kind=kind,
    train=examples,
    held_out=examples,
    train_prompts=prompts,
    eval_prompts=prompts,
    group_of={},
    buckets=stage.data.buckets,
    pad_id=0,
    facts={},
    lines=(),
  )


def _names(stage: StageSettings) -> list[str]:
  """Made-up names of as many objectives as the stage's head scores."""
  count = hyperparameters(HEADS["objectives"])["count"]
  return [f"objective {i}" for i in range(stage.head.get("count", count))]


def _records(settings: DataSettings, batch: Kind) -> str:
  """The kind of records: the source's own if batches can be made of these."""
  of = RECORDS.get(data.KINDS.get(settings.source, data.PreferenceRecord))
  own = of.kind if of is not None else ""
  return (
    own
    if own in batch.records or not batch.records
    else next(iter(batch.records))
  )


def widths(settings: DataSettings) -> tuple[int, int]:
  """Tokens of the prompt and of the response of the longest example."""
  longest = max(settings.buckets)
  prompt = min(settings.max_prompt_tokens or longest // 2, longest - 1)
  return prompt, longest - prompt


def _pair(prompt, response, source):
  # With every label and score, for losses that take them.
  return data.EncodedPair(
    prompt,
    response,
    response,
    source,
    preference=1.0,
    chosen_score=1.0,
    rejected_score=0.0,
    rater="rater",
    chosen_unsafe=False,
    rejected_unsafe=True,
  )


def _list(prompt, response, source):
  scores = np.arange(RESPONSES, dtype=np.float32)
  return data.EncodedList(prompt, (response,) * RESPONSES, scores, source)


def _binary(prompt, response, source):
  # Two prompts, since a response to another prompt is paired with each.
  prompt = prompt.copy()
  prompt[-1] += int(source.rpartition(":")[2]) % 2
  return data.EncodedBinary(prompt, response, True, source)


def _rating(prompt, response, source):
  return data.EncodedRating(prompt, response, {}, source)


def _sequence(prompt, response, source):
  ids = np.concatenate([prompt, response])
  mask = np.arange(len(ids)) >= len(prompt)
  return data.EncodedSequence(ids, mask, source)


def _prompts_alone(prompt, response, source):
  del response
  return data.EncodedPrompt(prompt, "", source, "")


_MAKERS = {
  "pairs": _pair,
  "lists": _list,
  "unpaired": _binary,
  "ratings": _rating,
  "sequences": _sequence,
}
