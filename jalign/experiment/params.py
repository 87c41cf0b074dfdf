"""Parameters on a mesh: fresh ones, or a run's."""

import pathlib
from typing import Any

import jax

from jalign.experiment import folder as folders
from jalign.experiment.streams import stream
from jalign.models import ModelConfig, param_specs, transformer
from jalign.sharding import shardings
from jalign.types import Params


def layout(config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
  """Sharding of every parameter."""
  return shardings(param_specs(config), mesh, config.rules)


def fresh_params(
  config: ModelConfig, mesh: jax.sharding.Mesh, seed: int
) -> Params:
  """Random parameters, made where they lie."""
  init = jax.jit(transformer(config).init, out_shardings=layout(config, mesh))
  return init(jax.random.key(stream(seed, "params")))


def trained_params(
  config: ModelConfig, mesh: jax.sharding.Mesh, stage: pathlib.Path
) -> Params:
  """Parameters that a stage ended with, read onto the mesh.

  Args:
    config: of the model.
    mesh: any, not only the one that they were trained on.
    stage: folder of the stage.

  Raises:
    UserError: the folder holds no checkpoint that fits the model.
  """
  shapes = jax.eval_shape(transformer(config).init, jax.random.key(0))
  like = jax.tree.map(
    lambda s, at: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=at),
    shapes,
    layout(config, mesh),
  )
  return folders.load_params(stage, like)
