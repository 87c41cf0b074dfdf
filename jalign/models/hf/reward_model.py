"""Reads and writes reward models and preference models."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.hosts import say
from jalign.models.config import ModelConfig
from jalign.models.hf.families import FAMILIES
from jalign.models.hf.head_file import (
  StoredHead,
  as_matrix,
  describe_head,
  lost,
  plain_head,
  plain_params,
  read_head,
  write_head,
)
from jalign.models.hf.load import described, load_parts
from jalign.models.hf.save import SHARD_BYTES, checked, write
from jalign.models.hf.shards import SCORE, SCORE_BIAS, not_finite
from jalign.types import Params, Sequences


class RewardModel(NamedTuple):
  """A model with a score's head.

  Attributes:
    config: config of the model.
    params: parameters of the model, without an output embedding of their own.
    head: the head.
  """

  config: ModelConfig
  params: Params
  head: StoredHead


def unpadded(sequences: Sequences, padding: int | None) -> Sequences:
  """The rows, with lengths that end at the token that a head reads.

  Transformers reads a score at the last token that isn't the padding. So where
  the padding has the id of the end of sequence, as often with models that have
  no padding of their own, the end of a response isn't read.

  Args:
    sequences: rows of tokens [B, T], padded on the right.
    padding: as in `StoredHead`.
  """
  if padding is None:
    return sequences
  at = jnp.arange(sequences.tokens.shape[1])
  read = (at < sequences.lengths[:, None]) & (sequences.tokens != padding)
  lengths = jnp.max(jnp.where(read, at + 1, 1), axis=1)
  return sequences.replace(lengths=lengths.astype(sequences.lengths.dtype))


def load_reward_model(
  path: str | os.PathLike[str],
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: Any = "",
  param_dtype: Any = "",
  **fields: Any,
) -> RewardModel:
  """Loads what `AutoModelForSequenceClassification` has saved.

  The scores are transformers' logits, one number per label. A checkpoint that
  `save_reward_model` wrote gives back the head that it was given.

  Args:
    path: see `load`.
    mesh: see `load`. Parameters of the head lie on no particular device.
    dtype: see `load`.
    param_dtype: see `load`.
    **fields: see `load`.

  Returns:
    The model. Its head is `scalar` for one label and `objectives` for several
    labels, with the names of config.json (id2label) and its padding.

  Raises:
    UserError: as for `load`; or config.json's labels aren't those of the files,
      or jalign_head.json is damaged or belongs to another head.
  """
  folder = pathlib.Path(path)
  plain = _plain(folder)
  config, params, tensors = load_parts(
    folder, mesh, dtype, param_dtype, fields, labels=len(plain.names)
  )
  matrix, bias = tensors[SCORE], tensors.get(SCORE_BIAS)
  if bias is not None:
    say(
      f"{folder}: {SCORE_BIAS} is added to the scores. Transformers leaves it"
      " out: its scores differ by a constant."
    )
  head = read_head(folder, config.hidden_size, matrix)
  if head is None:
    head = plain._replace(params=plain_params(matrix, bias))
  return RewardModel(config, params, head)


def read_reward_head(path: str | os.PathLike[str]) -> StoredHead:
  """The head of a reward model's checkpoint, without its parameters.

  Args:
    path: folder of the checkpoint; the files of weights aren't read.

  Raises:
    UserError: config.json or jalign_head.json can't be read.
  """
  folder = pathlib.Path(path)
  return describe_head(folder) or _plain(folder)


def _plain(folder: pathlib.Path) -> StoredHead:
  """The head that config.json describes."""
  description = described(folder)
  names = _names(description, str(folder / "config.json"))
  return plain_head(names, getattr(description, "pad_token_id", None))


def _names(description: Any, where: str) -> tuple[str, ...]:
  """The labels' names, in the order of the head's outputs."""
  labels = getattr(description, "id2label", None) or {}
  try:
    by_id = {int(key): str(value) for key, value in labels.items()}
  except (AttributeError, ValueError, TypeError):
    by_id = {}
  if not by_id or sorted(by_id) != [*range(len(by_id))]:
    raise UserError(
      f"id2label is {labels!r:.200}, not a name for each of 0, 1, ….",
      where=where,
      remedy='Write for instance {"0": "helpful", "1": "harmless"}.',
    )
  names = tuple(by_id[i] for i in range(len(by_id)))
  twice = [name for name in names if names.count(name) > 1]
  if twice:
    raise UserError(
      f"id2label has the name {twice[0]!r} more than once.",
      where=where,
      remedy="Give each label a name of its own.",
    )
  return names


def save_reward_model(
  model: RewardModel,
  path: str | os.PathLike[str],
  *,
  tokenizer: Any = None,
  like: str | os.PathLike[str] | None = None,
  shard_bytes: int = SHARD_BYTES,
) -> list[str]:
  """Writes what `AutoModelForSequenceClassification.from_pretrained` opens.

  Transformers gives the scores as logits, with the objectives' names as labels.
  What it has no place for is written to jalign_head.json, which
  `load_reward_model` reads: the head of a preference model, whose linear
  outputs are the labels then, a constant that is added to the score, and the
  precision of the head's weights beyond the model's dtype.

  Args:
    model: the model.
    path: a folder that doesn't exist yet.
    tokenizer: see `save`. Transformers finds a row's end by its `pad_id`.
    like: see `save`.
    shard_bytes: see `save`.

  Returns:
    Sentences on what transformers doesn't see.

  Raises:
    UserError: as for `save`; or the head's scores lack names, or its weights
      aren't finite in the model's dtype.
  """
  config, params, head = model
  name, dtype = checked(params, config)
  matrix, names = as_matrix(head)
  if bad := not_finite(matrix, dtype):
    raise UserError(
      f"{bad:,} weights of the head aren't finite in {dtype}.", where="head"
    )
  padding, notes = _padding(head, tokenizer, like)
  missing = lost(head, matrix, dtype)
  if missing:
    notes.append(
      f"transformers doesn't see {' and '.join(missing)}: jalign_head.json has"
      " it."
    )
  description: dict[str, Any] = {
    "architectures": [FAMILIES[name].scorer],
    "id2label": {str(i): label for i, label in enumerate(names)},
    "label2id": {label: i for i, label in enumerate(names)},
    "pad_token_id": padding,
  }
  if len(names) > 1:
    description["problem_type"] = "regression"

  def more(folder: pathlib.Path) -> None:
    if missing:
      write_head(head, folder)

  write(
    params,
    config,
    path,
    tokenizer=tokenizer,
    like=like,
    shard_bytes=shard_bytes,
    tensors={SCORE: matrix.astype(jnp.dtype(dtype))},
    description=description,
    more=more,
  )
  return notes


def _padding(
  head: StoredHead, tokenizer: Any, like: str | os.PathLike[str] | None
) -> tuple[int | None, list[str]]:
  """The padding that transformers is to skip, and sentences on that."""
  if head.padding is not None:
    return head.padding, []
  if tokenizer is not None:
    padding = tokenizer.pad_id
    ends = {tokenizer.eos_id, *getattr(tokenizer, "end_ids", ())}
  else:
    padding, ends = None, set()
    for file in ("config.json", "generation_config.json"):
      if like is not None and (pathlib.Path(like) / file).is_file():
        text = (pathlib.Path(like) / file).read_text(encoding="utf-8")
        given = json.loads(text)
        end = given.get("eos_token_id")
        ends |= {*end} if isinstance(end, list) else {end}
        padding = given.get("pad_token_id") if padding is None else padding
  if padding is None:
    return None, [
      "without a padding token, transformers scores one row at a time."
    ]
  if padding in ends:
    return None, [
      "the padding has the id of a response's end, which is read here and which"
      " transformers would skip: no pad_token_id is written, and transformers"
      " scores one row at a time."
    ]
  return padding, []
