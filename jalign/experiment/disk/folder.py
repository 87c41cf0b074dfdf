"""The run folder: which files it has, and which config it belongs to.

config.json           the resolved config
made_of.json          hashes of everything else that decides the run's numbers:
                      see identity.py
run.json              model config, stages, versions, the day the run began:
                      what init_from reads
tokenizer/            the tokenizer, the chat template, the ends of a response:
                      see kept.py
data.json             records read, used, skipped; truncation
STAGE/checkpoints/    newest states; each has a manifest.json of files' hashes
STAGE/best/           best state by `select`, with a manifest.json, too
STAGE/metrics.jsonl   and STAGE/tensorboard/
STAGE/results.json    held-out results and samples of a finished stage
STAGE/rewards.json    columns: what the stage's score head says of each held-out
                      pair
win_matrix.json       row beats column: names, win_rate, standard_error, low
                      (lower end of its 95 % interval)
report.md, report.html, plots/    the report
lock                  names the process that is writing, if any (see lock.py)
"""

import dataclasses
import datetime
import json
import pathlib
import typing
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.disk import lock
from jalign.files import is_unfinished, write_whole
from jalign.hosts import once, say
from jalign.models import ModelConfig
from jalign.training.checkpoint import Checkpoints, versions
from jalign.training.critic import CRITIC


def read_json(path: pathlib.Path) -> Any:
  """The contents of a JSON file of a run.

  Raises:
    UserError: the file is missing or damaged.
  """
  try:
    return json.loads(path.read_bytes())
  except FileNotFoundError as e:
    raise UserError(
      "the file doesn't exist.",
      where=str(path),
      remedy="Name the folder of a run that `jalign train` made.",
    ) from e
  except OSError as e:
    raise UserError(
      f"the file can't be read ({e.strerror}).", where=str(path)
    ) from e
  except (ValueError, RecursionError) as e:
    raise UserError(f"the file is not JSON ({e}).", where=str(path)) from e


@once
def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def claim(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes a folder belong to a config, by writing config.json."""
  write_json(folder / "config.json", config)


def check(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Checks that a folder belongs to a config, or to none.

  The mesh may be another: a run goes on with more or fewer devices.

  Raises:
    UserError: the folder holds another config's run (the error names the keys
      that differ), or something other than a run.
  """
  path = folder / "config.json"
  config = json.loads(json.dumps(config))  # tuples become lists
  if path.exists():
    there = read_json(path)
    if isinstance(there, dict) and "mesh" in there and "mesh" in config:
      if there["mesh"] != config["mesh"]:
        say(
          f"{folder}: goes on with mesh {_short(config['mesh'])} in place of"
          f" {_short(there['mesh'])}, so that sums are rounded differently"
        )
      there["mesh"] = config["mesh"]
    if there != config and not _same(there, config):
      keys = sorted(_told(differing(there, config), there, config))
      both = [
        f"{key} ({_short(_at(there, key))} in the folder,"
        f" {_short(_at(config, key))} now)"
        for key in keys
      ]
      raise UserError(
        "the folder holds the run of another config; these differ:"
        f" {', '.join(both)}.",
        where=str(folder),
        remedy=f"Give the folder's value{'s' * (len(keys) > 1)} to go on with"
        " its run, or choose another --workdir for a new run.",
      )
    return
  # A run that is killed as it begins leaves such files.
  ours = lambda name: name == lock.NAME or is_unfinished(name)
  if folder.exists() and not all(ours(p.name) for p in folder.iterdir()):
    raise UserError(
      "the folder is not empty and not a run.",
      where=str(folder),
      remedy="Choose another --workdir.",
    )


def _same(there: Any, config: Mapping[str, Any]) -> bool:
  """Whether two configs mean the same, perhaps by a default in one of them."""
  try:
    return parse(there) == parse(config)
  except (UserError, TypeError):  # a key that nothing reads any longer
    return False


def _told(keys: set[str], there: Any, config: Any) -> set[str]:
  """The keys that differ, except those that one config only has by default."""
  of_all = defaults()

  def by_default(key: str) -> bool:
    default = _at(of_all, key)
    ways = [_at(there, key), _at(config, key)]
    return default is not _ABSENT and _ABSENT in ways and default in ways

  return {key for key in keys if not by_default(key)} or keys


def _short(value: Any) -> str:
  """A value of a config, in at most 60 characters."""
  text = "not set" if value is _ABSENT else repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."


_ABSENT = "no such key \0"  # equal to no value


def _at(value: Any, key: str) -> Any:
  for name in key.split("."):
    value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
  return list(value) if isinstance(value, tuple) else value


def filled(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
  """Nested mappings, with defaults for the keys that they lack."""
  return dict(defaults) | {
    key: filled(item, defaults[key])
    if isinstance(item, dict) and isinstance(defaults.get(key), dict)
    else item
    for key, item in value.items()
  }


def differing(a: Any, b: Any, at: str = "") -> set[str]:
  """Dotted names of the entries in which nested dicts differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    names: set[str] = set()
    for key in a.keys() | b.keys():
      name = f"{at}.{key}" if at else key
      if key not in a or key not in b:
        names.add(name)
      else:
        names |= differing(a[key], b[key], name)
    return names
  return set() if a == b else {at}


def describe(
  folder: pathlib.Path,
  config: ModelConfig,
  stages: tuple[str, ...],
  day: datetime.date,
) -> None:
  """Writes run.json; `day` is the day that the run began."""
  model = dataclasses.asdict(config)
  del model["rules"]
  write_json(
    folder / "run.json",
    {
      "model": model,
      "stages": list(stages),
      "date": day.isoformat(),
      "versions": versions(),
    },
  )


def date_of(folder: pathlib.Path) -> datetime.date | None:
  """The day that a run began; None if an earlier version began the run.

  Raises:
    UserError: run.json is missing or damaged.
  """
  value = _description(folder).get("date")
  if value is None:
    return None
  try:
    return datetime.date.fromisoformat(value)
  except (TypeError, ValueError):
    raise _damaged(folder, f"date is {value!r}") from None


def model_of(folder: pathlib.Path) -> ModelConfig:
  """The model config of a run.

  Raises:
    UserError: run.json is missing or damaged.
  """
  model = _description(folder)["model"]
  if isinstance(model.get("remat"), bool):  # written by versions before 0.1.0
    model["remat"] = "block" if model["remat"] else "none"
  fields = {f.name: f for f in dataclasses.fields(ModelConfig)}
  fields.pop("rules")
  needed = {k for k, f in fields.items() if f.default is dataclasses.MISSING}
  if not needed <= model.keys() <= fields.keys():
    wrong = needed - model.keys() or model.keys() - fields.keys()
    raise _damaged(
      folder, f"model lacks or doesn't know {', '.join(sorted(wrong))}"
    )
  for name, value in model.items():
    kind: Any = typing.get_origin(fields[name].type) or fields[name].type
    others: dict[Any, tuple] = {float: (float, int), tuple: (list,)}
    kinds = others.get(kind, (kind,))
    if kind is not Any and type(value) not in kinds:
      raise _damaged(folder, f"model.{name} is {value!r}")
  try:
    return ModelConfig(**model)
  except (TypeError, ValueError) as error:
    raise _damaged(folder, str(error)) from None


def last_stage(folder: pathlib.Path) -> pathlib.Path:
  """Folder of the last stage of a run that has begun training.

  Raises:
    UserError: no stage has begun.
  """
  for name in reversed(_description(folder)["stages"]):
    saved = folder / name / "checkpoints"
    if saved.exists() and any(p.name.isdigit() for p in saved.iterdir()):
      return folder / name
  raise UserError("the run has no trained stage.", where=str(folder))


def stages_of(folder: pathlib.Path) -> list[str]:
  """Names of a run's stages, begun or not."""
  return list(_description(folder)["stages"])


def _description(folder: pathlib.Path) -> dict[str, Any]:
  """The contents of run.json, with the types of its entries checked."""
  value = read_json(folder / "run.json")
  if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
    raise _damaged(folder, "model is missing")
  stages = value.get("stages")
  if not isinstance(stages, list) or not all(map(_is_name, stages)):
    raise _damaged(folder, "stages are missing")
  return value


def _is_name(value: Any) -> bool:
  """Whether a value can be the name of a stage's folder."""
  return isinstance(value, str) and bool(value) and not set(value) & {"/", "\0"}


def _damaged(folder: pathlib.Path, problem: str) -> UserError:
  return UserError(
    f"the file is damaged: {problem}.",
    where=str(folder / "run.json"),
    remedy="The command that trained the run writes the file anew.",
  )


def saved(folder: pathlib.Path) -> str:
  """A sentence on the saved checkpoints of a run or a sweep."""
  newest = {
    path.parent: max(Checkpoints(path).steps(), default=None)
    for path in sorted(folder.glob("**/checkpoints"))
  }
  parts = [
    f"{stage.relative_to(folder)} up to step {step}"
    for stage, step in newest.items()
    if step is not None
  ]
  return f"Saved: {', '.join(parts)}." if parts else "Nothing is saved."


def start_of(stage: pathlib.Path) -> str | None:
  """Fingerprint of what a stage started from; None if none was kept."""
  start = _last(stage).meta().get("start")
  if start is None:  # best states had none before 0.2.0; the others had it
    start = Checkpoints(stage / "checkpoints").meta().get("start")
  return start


def load_params(stage: pathlib.Path, like: Any) -> Any:
  """The parameters that a stage ended with: the best ones if it selects.

  Args:
    stage: the stage's folder.
    like: tree of jax.ShapeDtypeStruct with shardings.

  Raises:
    UserError: there is no whole checkpoint, or none that fits `like`.
  """
  return _last(stage).restore_params(like)


def has_critic(stage: pathlib.Path) -> bool:
  """Whether a stage's newest parameters are a policy's with a critic's.

  Raises:
    UserError: there is no whole checkpoint.
  """
  shapes = _last(stage).meta()["shapes"]["params"]
  return any(name.startswith(f"['{CRITIC}']") for name in shapes)


def _last(stage):
  for name in ("best", "checkpoints"):
    checkpoints = Checkpoints(stage / name)
    if checkpoints.steps():
      return checkpoints
  raise UserError("the stage has no complete checkpoint.", where=str(stage))
