"""Changes of a run's settings that save memory, and their flags."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from jalign.experiment.config.settings import Settings

# (name of a stage, or "" for the run; key of the config) -> value.
Change = Mapping[tuple[str, str], Any]

RANK = 16  # of a proposed low-rank change


def kinds(settings: Settings, stages: list[str]) -> Iterator[list[Change]]:
  """Kinds of changes, each from the least to the largest change.

  Those that alter no result come first: another order of the same sums, or
  another place of the same numbers. Then those that round more, and at last
  those that train something else.

  Args:
    settings: the run's settings.
    stages: names of the stages that are changed.
  """
  of = [settings.stage(name) for name in stages]

  def every(**values: Any) -> Change:
    keys = {k.replace("__", "."): value for k, value in values.items()}
    return {(s.name, k): v for s in of for k, v in keys.items()}

  yield [
    {(s.name, "microbatches"): s.microbatches * parts for s in of}
    for parts in (2, 4, 8, 16, 32, 64)
  ]
  yield [{("", "model.remat"): "block"}]
  yield [
    every(offload=("optimizer",)),
    every(reference="precompute", offload=("optimizer", "start")),
  ]
  yield [
    {
      (s.name, "slots"): (s.slots or 2 * s.batch_size) // parts
      for s in of
      if s.algorithm
    }
    for parts in (2, 4, 8)
  ]
  yield [every(optimizer__moments="bfloat16")]
  yield [{("", "model.cache_dtype"): "int8"}]
  yield [every(lora__rank=RANK)]
  yield [
    {(s.name, "batch_size"): s.batch_size // parts for s in of}
    for parts in (2, 4, 8)
  ]


def changed(settings: Settings, change: Change) -> Settings:
  """The settings with a change."""
  for (stage, key), value in change.items():
    if stage:
      stages = tuple(
        _set(s, key, value) if s.name == stage else s for s in settings.stages
      )
      settings = dataclasses.replace(settings, stages=stages)
    else:
      settings = _set(settings, key, value)
  return settings


def effective(settings: Settings, change: Change) -> Change:
  """The part of a change that isn't so already."""
  is_so = lambda stage, key: _get(
    settings.stage(stage) if stage else settings, key
  )
  return {
    (stage, key): value
    for (stage, key), value in change.items()
    if is_so(stage, key) != value
  }


def flags(settings: Settings, change: Change) -> list[str]:
  """What to add to a command to make a change."""
  last, mesh, written = settings.stages[-1].name, {}, []
  for (stage, key), value in change.items():
    if key in ("mesh.data", "mesh.fsdp", "mesh.tensor"):
      mesh[key] = value
      continue
    at = key if stage in ("", last) else f"{stage}.{key}"
    written.append(f"--config.{at}={_written(value)}")
  if mesh:
    sizes = changed(settings, change).mesh.sizes
    written.insert(0, "--mesh=" + "x".join(map(str, sizes)))
  return written


def _written(value: Any) -> str:
  if not isinstance(value, tuple):
    return str(value)
  return '"(' + "".join(f"'{v}'," for v in value) + ')"'


def _get(node: Any, key: str) -> Any:
  for part in key.split("."):
    node = node.get(part) if isinstance(node, Mapping) else getattr(node, part)
  return node


def _set(node: Any, key: str, value: Any) -> Any:
  part, _, rest = key.partition(".")
  if isinstance(node, Mapping):
    return {**node, part: value}
  if rest:
    value = _set(getattr(node, part), rest, value)
  return dataclasses.replace(node, **{part: value})
