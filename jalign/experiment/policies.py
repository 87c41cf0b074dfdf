"""Loads policies: of a run's last stage, or of a checkpoint."""

import pathlib
from typing import NamedTuple

import jax

from jalign import data
from jalign.errors import UserError
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import check_vocabulary, is_checkpoint
from jalign.experiment.params import trained_params
from jalign.experiment.scorer import is_scorer
from jalign.models import ModelConfig, hf, transformer
from jalign.types import Model, Params


class Loaded(NamedTuple):
  """A policy with what belongs to it.

  Attributes:
    model: the policy's functions.
    params: the policy's parameters.
    tokenizer: the policy's tokenizer.
    stage: name of the run's stage that trained it; "" for a checkpoint.
    config: config of the model.
  """

  model: Model
  params: Params
  tokenizer: data.Tokenizer
  stage: str
  config: ModelConfig


def load_run(run: pathlib.Path, mesh: jax.sharding.Mesh) -> Loaded:
  """Loads the policy of a run's last stage onto a mesh.

  Raises:
    UserError: the folder is not a run, or none of its stages is trained; or its
      last stage trained a score head.
  """
  check_policy(run)
  config = folders.model_of(run)
  stage = folders.last_stage(run)
  params = trained_params(config, mesh, stage)
  tokenizer = data.load(run / "tokenizer")
  check_vocabulary(tokenizer, config, str(run))
  return Loaded(transformer(config), params, tokenizer, stage.name, config)


def load_policy(name: str, mesh: jax.sharding.Mesh) -> Loaded:
  """Loads the policy of a run, or of a checkpoint, onto a mesh.

  Args:
    name: folder of a run or a checkpoint, or a checkpoint's name on the hub.
    mesh: the mesh to load onto.

  Raises:
    UserError: `name` is neither a run nor a checkpoint, or can't be read; or
      the model is a reward model.
  """
  folder = hf.resolve(name)
  if not is_checkpoint(folder):
    return load_run(folder, mesh)
  check_policy(folder)
  tokenizer = data.load(folder)
  check_vocabulary(tokenizer, hf.read_config(folder), str(folder))
  config, params = hf.load(folder, mesh=mesh)
  return Loaded(transformer(config), params, tokenizer, "", config)


def check_policy(folder: pathlib.Path) -> None:
  """Raises UserError for a reward model, which generates no text.

  Args:
    folder: folder of a run or a checkpoint.

  Raises:
    UserError: it holds a reward model or a preference model.
  """
  if is_scorer(folder):
    raise UserError(
      "this is a reward model or a preference model: it scores responses, and"
      " generates none.",
      where=str(folder),
      remedy="`jalign score` writes its scores, and `jalign evaluate` a run's"
      " held-out accuracy. To judge samples by it, name it as"
      " config.annotator.function, with config.annotator.kind=model.",
    )
