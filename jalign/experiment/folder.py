"""The run folder: what lies where, and whose run it is.

config.json           the resolved config
run.json              model config, stages, versions: what init_from reads
tokenizer/            the tokenizer
data.json             records read, used, skipped; truncation
STAGE/checkpoints/    newest states        STAGE/best/   best by `select`
STAGE/metrics.jsonl   and STAGE/tensorboard/
STAGE/results.json    held-out results and samples of a finished stage
report.md, plots/     the report
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.models import ModelConfig
from jalign.training.checkpoint import Checkpoints, versions


def read_json(path: pathlib.Path) -> Any:
  """Contents of a JSON file of a run.

  Raises:
    UserError: it is missing or damaged.
  """
  try:
    return json.loads(path.read_text())
  except FileNotFoundError as e:
    raise UserError(
      "doesn't exist.",
      where=str(path),
      remedy="Name the folder of a run that `jalign train` made.",
    ) from e
  except json.JSONDecodeError as e:
    raise UserError(f"is not JSON ({e}).", where=str(path)) from e


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  partial.write_text(json.dumps(value, indent=2) + "\n")
  partial.replace(path)


def claim(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes the folder this config's."""
  write_json(folder / "config.json", config)


def check(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Checks that the folder is this config's, or nobody's.

  Raises:
    UserError: it holds another config's run; names the keys that differ.
  """
  path = folder / "config.json"
  config = json.loads(json.dumps(config))  # tuples become lists
  if path.exists():
    there = read_json(path)
    if there != config:
      keys = ", ".join(sorted(_differences(there, config)))
      raise UserError(
        f"holds the run of another config; these differ: {keys}.",
        where=str(folder),
        remedy="Choose another --workdir, or delete this one.",
      )
    return
  if folder.exists() and any(folder.iterdir()):
    raise UserError(
      "is not empty and not a run.",
      where=str(folder),
      remedy="Choose another --workdir.",
    )


def _differences(a: Any, b: Any, at: str = "") -> set[str]:
  if isinstance(a, dict) and isinstance(b, dict):
    found: set[str] = set()
    for key in a.keys() | b.keys():
      name = f"{at}.{key}" if at else key
      if key not in a or key not in b:
        found.add(name)
      else:
        found |= _differences(a[key], b[key], name)
    return found
  return set() if a == b else {at}


def describe(
  folder: pathlib.Path, config: ModelConfig, stages: tuple[str, ...]
) -> None:
  """Writes run.json."""
  model = dataclasses.asdict(config)
  del model["rules"]
  write_json(
    folder / "run.json",
    {"model": model, "stages": list(stages), "versions": versions()},
  )


def model_of(folder: pathlib.Path) -> ModelConfig:
  """The model config of a run."""
  return ModelConfig(**read_json(folder / "run.json")["model"])


def last_stage(folder: pathlib.Path) -> pathlib.Path:
  """Folder of the last stage of a run that has begun.

  Raises:
    UserError: none has.
  """
  for name in reversed(read_json(folder / "run.json")["stages"]):
    saved = folder / name / "checkpoints"
    if saved.exists() and any(p.name.isdigit() for p in saved.iterdir()):
      return folder / name
  raise UserError("has no trained stage.", where=str(folder))


def load_params(stage: pathlib.Path, like: Any) -> Any:
  """Parameters that a stage ended with: the best ones where it selects.

  Args:
    stage: its folder.
    like: tree of jax.ShapeDtypeStruct with shardings.
  """
  for name in ("best", "checkpoints"):
    if (stage / name).exists():
      checkpoints = Checkpoints(stage / name)
      try:
        if checkpoints.latest() is not None:
          return checkpoints.restore_params(like)
      finally:
        checkpoints.close()
  raise UserError("holds no complete checkpoint.", where=str(stage))
