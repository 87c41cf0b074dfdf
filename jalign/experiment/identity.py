"""What a run is made of: kept in its folder, and compared when it continues.

made_of.json has a hash of everything beside the config that decides numbers:
the functions' source, each part of the data, the tokenizer, the chat template
and the fields of the model. A stage's checkpoints keep the hashes that the
stage's own numbers come from. What a trained stage comes from can't change. A
change that only affects judging can be agreed to, by config.resume = "anyway",
and made_of.json then keeps the agreement.
"""

import dataclasses
import datetime
import functools
import hashlib
import json
import pathlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.experiment import judges
from jalign.experiment.config import algorithms, code, own_loss
from jalign.experiment.config.settings import (
  AnnotatorSettings,
  Settings,
  StageSettings,
)
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.disk import folder as folders
from jalign.experiment.judges.model import fingerprint as model_fingerprint
from jalign.hosts import say
from jalign.models import ModelConfig, hf
from jalign.training.checkpoint import Checkpoints

NAME = "made_of.json"
ANYWAY = "anyway"
_FUNCTIONS = {  # key of the config -> the function that it names
  "annotator.cost": lambda settings: settings.annotator.cost,
  "annotator.measures": lambda settings: settings.annotator.measures,
  "annotator.opponents": lambda settings: settings.annotator.opponents,
  "report": lambda settings: settings.report,
}
_JUDGE = {"annotator.function", "annotator.cost"}

MadeOf = dict[str, str]  # name of an ingredient -> its hash, or its value


def made_of(
  settings: Settings, prepared: Prepared, model: ModelConfig
) -> MadeOf:
  """Hashes of what decides a run's numbers beside config and start."""
  hashes = {}
  if judge := judges.made_of(settings):
    hashes["annotator.function"] = judge
  if gold := judges.gold_made_of(settings):
    hashes["annotator.gold"] = gold
  for name, named in _FUNCTIONS.items():
    if named(settings):
      hashes[name] = code.fingerprint(named(settings))
  for stage in settings.stages:
    if stage.samples and (own := algorithms.fingerprint(stage.algorithm)):
      hashes[_algorithm(stage)] = own
    if stage.critic.start and algorithms.trains_critic(stage):
      base = hf.resolve(stage.critic.start)
      hashes[f"{stage.name}.critic"] = model_fingerprint(base)
    if own := own_loss.fingerprint(stage.loss):
      hashes[f"{stage.name}.loss"] = own
  datasets = {data_name(settings, stage): stage for stage in settings.stages}
  for name, dataset in (
    ("data", prepared.main),
    *((n, prepared.stages[stage.name]) for n, stage in datasets.items()),
  ):
    hashes |= _of_data(name, dataset)
  tokenizer = prepared.tokenizer
  facts = [tokenizer.backend.to_str(), tokenizer.eos_id, tokenizer.bos_id]
  hashes["tokenizer"] = _hash([*facts, *tokenizer.end_ids])
  chats = [_written(t) for t in prepared.templates.values() if t is not None]
  if chats:
    hashes["template"] = _hash(chats)
  for field in dataclasses.fields(model):
    if field.name != "rules":
      hashes[f"model.{field.name}"] = repr(getattr(model, field.name))
  return hashes


def data_name(settings: Settings, stage: StageSettings) -> str:
  """The config section that describes a stage's data."""
  return "data" if stage.data == settings.data else f"{stage.name}.data"


def _algorithm(stage: StageSettings) -> str:
  """The name under which the code of a stage's algorithm is hashed."""
  return f"algorithm {stage.algorithm}"


def needed_by(settings: Settings, stage: StageSettings, of: MadeOf) -> MadeOf:
  """The ingredients of a stage's own parameters, including the best ones."""
  own = data_name(settings, stage)
  names = {f"{own}.train", *(f"{stage.name}.{n}" for n in ("loss", "critic"))}
  names |= {n for n in of if n.startswith("model.")}
  if stage.samples:
    names |= {*_JUDGE, f"{own}.train_rows", "tokenizer", _algorithm(stage)}
  if stage.select.startswith("samples/gold"):
    names.add("annotator.gold")
  if stage.select:
    held_out = f"{'data' if stage.samples else own}.held_out"
    names |= {held_out, f"{held_out}_rows"}
  return {name: value for name, value in of.items() if name in names}


# Added if several functions have changed, perhaps with the file of one of them.
_WHOLE_FILE = (
  " A function is hashed with its whole file: keep code that is still to be"
  " changed in another file than the annotator's."
)


def check(
  folder: pathlib.Path, settings: Settings, now: MadeOf
) -> dict[str, Any]:
  """Compares a run with its folder's made_of.json; returns what to `keep`.

  Raises:
    UserError: something has changed that a trained stage comes from; or
      something else has changed, and nobody has agreed to it.
  """
  there = _read(folder)
  begun = [s for s in settings.stages if _has_begun(folder / s.name)]
  if there is None:  # runs that began before there were ids have none
    there = _new("" if begun else secrets.token_hex(8))
  before = there["made_of"] if begun else {}
  changed = [n for n in now if n in before and before[n] != now[n]]
  record = there | {"made_of": before | now}
  if not changed:
    return record
  lost = {
    stage.name: sorted(set(needed_by(settings, stage, now)) & set(changed))
    for stage in begun
  }
  lost = {name: names for name, names in lost.items() if names}
  said = _say(changed, before, now)
  if lost:
    trained = "; ".join(f"{s} from {', '.join(n)}" for s, n in lost.items())
    raise UserError(
      f"the run isn't made of the same any more: {said} changed, and stages"
      f" were trained from that ({trained}).",
      where=str(folder),
      remedy="Bring back what was there. Or delete the folders of these stages"
      " and of those that start from them: the same command with"
      f" --config.resume={ANYWAY} trains them anew."
      + (_WHOLE_FILE if len({*_JUDGE, *_FUNCTIONS} & set(changed)) > 1 else ""),
    )
  if settings.resume != ANYWAY:
    raise UserError(
      f"the run isn't made of the same any more: {said} changed since it began."
      " No trained parameter comes from that, but measurements do.",
      where=str(folder),
      remedy=f"Bring back what was there; or --config.resume={ANYWAY} continues"
      f" with what is there now, and {NAME} says so.",
    )
  say(f"[run] goes on although {said} changed")
  record["went_on"] = [*there["went_on"], agreement(changed)]
  return record


def agreement(changed: Iterable[str]) -> dict[str, Any]:
  """The entry of made_of.json for a change that was agreed to."""
  day = datetime.datetime.now().isoformat(timespec="seconds")
  return {"date": day, "changed": list(changed)}


def id_of(folder: pathlib.Path) -> str:
  """An id that no other run has; "" for runs from before there were ids."""
  there = _read(folder) or {}
  return there.get("id", "")


def went_on(folder: pathlib.Path) -> list[str]:
  """Names of ingredients that changed since a run began, and were agreed to."""
  there = _read(folder) or _new("")
  return list(
    dict.fromkeys(n for agreed in there["went_on"] for n in agreed["changed"])
  )


def changed_since(
  run: pathlib.Path, settings: Settings, prepared: Prepared, *, judged: bool
) -> list[str]:
  """Names of the data, and of the judge, that have changed since a run began.

  Args:
    run: the run's folder.
    settings: the run's settings.
    prepared: the present data.
    judged: whether the annotator is used.
  """
  own = settings.annotator if judged else AnnotatorSettings()
  judge = dataclasses.replace(own, measures="", opponents="", gold={})
  used = dataclasses.replace(settings, report="", annotator=judge)
  now = made_of(used, prepared, folders.model_of(run))
  before = (_read(run) or _new(""))["made_of"]
  return [
    name
    for name, value in now.items()
    if before.get(name, value) != value and not name.startswith("model.")
  ]


def _new(name: str) -> dict[str, Any]:
  return {"id": name, "made_of": {}, "went_on": []}


def keep(folder: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes made_of.json."""
  folders.write_json(folder / NAME, value)


def agree(folder: pathlib.Path, changed: str) -> None:
  """Adds a change that was agreed to while a stage began."""
  there = _read(folder) or _new("")
  there["went_on"].append(agreement([changed]))
  keep(folder, there)


def _read(folder: pathlib.Path) -> dict[str, Any] | None:
  """The contents of made_of.json; None for runs from before it existed."""
  path = folder / NAME
  if not path.exists():
    return None
  value = folders.read_json(path)
  if not isinstance(value, dict) or not (
    isinstance(value.get("made_of"), dict)
    and isinstance(value.get("went_on"), list)
  ):
    raise UserError(
      "the file is damaged.",
      where=str(path),
      remedy="Bring back a copy; or delete the file, if everything that the run"
      " is made of is unchanged.",
    )
  return value


def _has_begun(stage: pathlib.Path) -> bool:
  return bool(Checkpoints(stage / "checkpoints").steps())


def _say(changed: list[str], before: MadeOf, now: MadeOf) -> str:
  return ", ".join(
    f"{name} (from {before[name]} to {now[name]})"
    if name.startswith("model.")
    else name
    for name in changed
  )


def _written(template: data.ChatTemplate) -> str:
  """What a template writes for a test conversation; its own text may vary."""
  turns = [{"role": r, "content": r} for r in ("user", "assistant") * 2]
  try:
    return template.render(turns) + template.render(turns[:1], prompt=True)
  except Exception as e:  # whatever a template raises
    return type(e).__name__


def _of_data(name: str, dataset: Dataset) -> MadeOf:
  parts = {
    "train": (dataset.train, dataset.train_prompts),
    "held_out": (dataset.held_out, dataset.eval_prompts),
  }
  hashes = {
    f"{name}.{part}": _hash(
      [value for rows in lists for row in rows for value in _values(row)]
    )
    for part, lists in parts.items()
  }
  if dataset.rows_by_source:  # else there is no such hash
    for part, (_, prompts) in parts.items():
      rows = dataset.judge_rows(prompt.source for prompt in prompts)
      hashes[f"{name}.{part}_rows"] = _hash(
        json.dumps(row, sort_keys=True) for row in rows
      )
  return hashes


def _values(row: Any) -> Iterable[Any]:
  """Yields names and values of an encoded record's fields, to hash.

  Of its source, only the file's name and the line count. Fields with their
  default are left out, since a later version may have more fields.
  """
  kind: Any = type(row)
  for name, default in _fields(kind):
    value = getattr(row, name)
    if name == "source":
      value = value.replace("\\", "/").rpartition("/")[2]
    if isinstance(value, np.ndarray) or value != default:
      yield name
      yield value


@functools.cache
def _fields(kind: Any) -> list[tuple[str, Any]]:
  return [(field.name, field.default) for field in dataclasses.fields(kind)]


def _hash(values: Iterable[Any]) -> str:
  digest = hashlib.sha256()
  for value in values:
    part = _bytes(value)
    digest.update(len(part).to_bytes(8, "little") + part)
  return digest.hexdigest()[:32]


def _bytes(value: Any) -> bytes:
  if isinstance(value, np.ndarray):
    return f"{value.shape}{value.dtype.char}".encode() + value.tobytes()
  if isinstance(value, tuple | list):
    return _hash(value).encode()
  return repr(value).encode(errors="surrogatepass")
