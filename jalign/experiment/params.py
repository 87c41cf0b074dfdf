"""Puts parameters on a mesh: fresh ones, a checkpoint's, or a run's."""

import pathlib
from typing import Any

import jax

from jalign.decode import regrouped
from jalign.errors import UserError
from jalign.experiment.config.algorithms import trains_critic
from jalign.experiment.config.parse import parse
from jalign.experiment.config.settings import Settings, StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import (
  base_of,
  is_checkpoint,
  is_reward_model,
)
from jalign.experiment.heads import head_of, reads_head
from jalign.experiment.states import check_chosen
from jalign.models import ModelConfig, hf, param_specs, transformer
from jalign.models.heads import scalar
from jalign.sharding import replicated, shardings
from jalign.training import reference
from jalign.training.critic import policy_of, with_critic
from jalign.training.trainable import (
  HEAD,
  MODEL,
  Trainable,
  has_head,
  nothing,
  trainable,
  with_head,
)
from jalign.types import Params


def layout(config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
  """The sharding of every parameter, as a tree like the parameters."""
  return shardings(param_specs(config), mesh, config.rules)


def check_decoding(
  config: ModelConfig, mesh: jax.sharding.Mesh, decode_tensor: int
) -> None:
  """Checks that parameters can be split for decoding.

  Args:
    config: config of the model.
    mesh: the mesh of training.
    decode_tensor: devices along `tensor` while decoding; 0 for the mesh's.

  Raises:
    UserError: they can't.
  """
  if not decode_tensor:
    return
  try:
    layout(config, regrouped(mesh, decode_tensor))
  except UserError as e:
    raise UserError(
      e.problem,
      where="config.mesh.decode_tensor",
      remedy="Choose a number that divides the model's heads and widths, and"
      f" the {mesh.size} devices.",
    ) from None


def fresh_params(
  config: ModelConfig, mesh: jax.sharding.Mesh, seed: int
) -> Params:
  """Random parameters, made on the devices where they lie."""
  init = jax.jit(transformer(config).init, out_shardings=layout(config, mesh))
  return init(jax.random.key(stream(seed, "params")))


def start_params(
  config: ModelConfig,
  mesh: jax.sharding.Mesh,
  seed: int,
  base: pathlib.Path | None,
) -> Params:
  """The parameters that a run starts from, on the mesh.

  Those of a reward model are {"model": ..., "head": ...}.
  """
  if base is None:
    return fresh_params(config, mesh, seed)
  if is_checkpoint(base):
    how = {name: getattr(config, name) for name in hf.HOW}
    if is_reward_model(base):
      start = hf.load_reward_model(base, mesh=mesh, **how)
      where = replicated(mesh)
      return {
        MODEL: start.params,
        HEAD: jax.device_put(start.head.params, where),
      }
    return hf.load(base, mesh=mesh, **how)[1]
  return trained_params(config, mesh, folders.last_stage(base))


def trainable_of(
  config: ModelConfig, stage: StageSettings, critic: bool | None = None
) -> Trainable:
  """The part of the policy that a stage trains, with its head or its critic.

  Args:
    config: the model's config.
    stage: the stage's settings.
    critic: whether there is a critic; None asks the stage's algorithm.

  Raises:
    UserError: a setting makes no sense; the error names the key.
  """
  head = head_of(config, stage) if reads_head(stage) or stage.head else None
  try:
    if head is None:
      part = trainable(config, stage.lora, stage.trainable)
      if not (trains_critic(stage) if critic is None else critic):
        return part
      return with_critic(part, scalar(config.hidden_size).init)
    model = tuple(p for p in stage.trainable if not p.startswith(f"{HEAD}/"))
    part = (
      nothing(config)
      if stage.trainable and not model
      else trainable(config, stage.lora, model)
    )
    return with_head(part, head.init)
  except UserError as e:
    raise UserError(
      e.problem, where=f"config.{stage.name}.{e.where}", remedy=e.remedy
    ) from None


def laid_out(config: ModelConfig, mesh: jax.sharding.Mesh, like: Params) -> Any:
  """The sharding of every parameter of a policy, with its head if it has one.

  Args:
    config: config of the model.
    mesh: the mesh to lay parameters on.
    like: parameters, or their shapes.
  """
  where = layout(config, mesh)
  if not has_head(like):
    return where
  return {
    MODEL: where,
    HEAD: jax.tree.map(lambda _: replicated(mesh), like[HEAD]),
  }


def trained_params(
  config: ModelConfig, mesh: jax.sharding.Mesh, stage: pathlib.Path
) -> Params:
  """The parameters that a stage ended with, read onto a mesh.

  If the stage trained a part of them, the rest comes from what it started from.

  Args:
    config: config of the model.
    mesh: any mesh, not only the one that they were trained on.
    stage: folder of the stage.

  Raises:
    UserError: the folder holds no checkpoint that fits the model; or what the
      stage started from is gone, or has changed.
  """
  settings = parse(folders.read_json(stage.parent / "config.json"))
  with jax.set_mesh(mesh):
    return _policy(config, mesh, stage.parent, settings, stage.name)


def parameters_before(
  config: ModelConfig, mesh: jax.sharding.Mesh, stage: pathlib.Path
) -> Params:
  """The parameters that a stage started from, read onto a mesh.

  Arguments and errors are those of `trained_params`.
  """
  settings = parse(folders.read_json(stage.parent / "config.json"))
  start = settings.starts[stage.name]
  with jax.set_mesh(mesh):
    return _policy(config, mesh, stage.parent, settings, start)


def _policy(config, mesh, run, settings: Settings, name: str) -> Params:
  if name == "start":
    return start_params(config, mesh, settings.seed, base_of(settings))
  # The folder knows of a critic even where the algorithm's code is gone.
  critic = folders.has_critic(run / name)
  part = trainable_of(config, settings.stage(name), critic)
  check_chosen(run / name, settings)
  if not part.title:
    return policy_of(folders.load_params(run / name, _like(part, config, mesh)))
  base = _policy(config, mesh, run, settings, settings.starts[name])
  trained = _trained_part(config, mesh, run / name, part, base)
  policy = policy_of(part.join(trained, part.frozen(base)))
  where = laid_out(config, mesh, policy)
  return jax.jit(part.whole, out_shardings=where)(policy)


def _trained_part(config, mesh, stage, part, base):
  """The saved parameters of a stage that trained a part of its start."""
  if folders.start_of(stage) != reference.fingerprint(base, ()):
    raise UserError(
      "only the trained part is saved, and what the stage started from has"
      " changed since.",
      where=str(stage),
      remedy="Bring back the checkpoint or the run that it started from.",
    )
  return folders.load_params(stage, _like(part, config, mesh))


def delta_of(
  config: ModelConfig, mesh: jax.sharding.Mesh, run: pathlib.Path
) -> tuple[Any, Params]:
  """LoRA settings of a run's last stage, and the low-rank change it trained.

  Raises:
    UserError: the stage trained something else, or a change of an earlier
      stage's policy, which no checkpoint holds.
  """
  stage = folders.last_stage(run)
  whole = parse(folders.read_json(run / "config.json"))
  settings, start = whole.stage(stage.name), whole.starts[stage.name]
  if not settings.lora.rank:
    raise UserError(
      "the stage wasn't trained by LoRA: there is no adapter.",
      where=str(stage),
      remedy="Convert the whole run.",
    )
  if start != "start":
    raise UserError(
      f"the stage changed what the stage {start} left, not the checkpoint that"
      " the run started from.",
      where=str(stage),
      remedy="Convert the whole run.",
    )
  part = trainable_of(config, settings, folders.has_critic(stage))
  change = folders.load_params(stage, _like(part, config, mesh))
  return settings.lora, policy_of(change)


def _like(part: Trainable, config, mesh):
  """Shapes and shardings of the parameters that a stage trains."""
  policy = jax.eval_shape(transformer(config).init, jax.random.key(0))
  shapes = jax.eval_shape(part.start, policy, jax.random.key(0))
  return jax.tree.map(
    lambda s, at: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=at),
    shapes,
    shardings(part.specs, mesh, config.rules),
  )
