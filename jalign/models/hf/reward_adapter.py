"""Reads PEFT's adapters of reward models."""

import dataclasses
import os
import pathlib

import jax

from jalign.errors import UserError
from jalign.models.hf.adapter import read_adapter
from jalign.models.hf.head_file import plain_head, plain_params
from jalign.models.hf.load import described, load
from jalign.models.hf.reward_model import RewardModel, load_reward_model
from jalign.models.lora import LoraConfig
from jalign.types import Params


def load_reward_adapter(
  path: str | os.PathLike[str],
  base: str | os.PathLike[str],
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[RewardModel, LoraConfig, Params]:
  """Loads an adapter that PEFT has saved for the task SEQ_CLS, and its base.

  Args:
    path: folder of the adapter, which has the score's head.
    base: folder of the checkpoint that the adapter belongs to: a language
      model, whose output embedding is left out, or a reward model, whose head
      is replaced.
    mesh: see `load`.

  Returns:
    The reward model with the base's parameters and the adapter's head; and
    settings and delta for `jalign.models.lora.join`. The head doesn't read the
    padding of the base's config.json, and has the base's names if the base is
    a reward model with as many labels.

  Raises:
    UserError: as for `load` and `load_adapter`.
  """
  folder = pathlib.Path(base)
  description = described(folder)
  names: tuple[str, ...] = ()
  if any(
    str(name).endswith("ForSequenceClassification")
    for name in description.architectures or ()
  ):
    model = load_reward_model(folder, mesh=mesh)
    config, params, names = model.config, model.params, model.head.names
  else:
    config, params = load(folder, mesh=mesh)
    config = dataclasses.replace(config, tie_word_embeddings=True)
    params = {k: v for k, v in params.items() if k != "unembed"}
  lora, delta, matrix = read_adapter(pathlib.Path(path), config)
  if matrix is None:
    raise UserError(
      "it is the adapter of a language model, without a score.",
      where=str(path),
      remedy="load_adapter loads it.",
    )
  if len(names) != len(matrix):
    names = tuple(f"LABEL_{i}" for i in range(len(matrix)))
  padding = getattr(description, "pad_token_id", None)
  head = plain_head(names, padding)._replace(params=plain_params(matrix))
  return RewardModel(config, params, head), lora, delta
