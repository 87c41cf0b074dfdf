"""What a run found as it began and keeps: tokenizer, chat template, date.

RUN/tokenizer/ is a whole Hugging Face folder: the files of the tokenizer that
the run was given, chat_template.jinja with the template that its data went
through, generation_config.json with the ends of a response and, of a run that
comes from a checkpoint, that checkpoint's config.json. A run that starts from
this one takes it from there, so that a chain of runs needs none of the folders
that it came from.
"""

import datetime
import json
import pathlib
import re
import shutil
from collections.abc import Mapping

from jalign import data
from jalign.data.tokenizer import GENERATION, read_object
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.experiment.config.settings import Settings
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import (
  is_checkpoint,
  is_kept,
  tokenizer_folder,
)
from jalign.files import appearing, clear
from jalign.hosts import once
from jalign.models import hf

_MAIN, _OTHERS = "chat_template.jinja", "additional_chat_templates"
_SPECIAL = re.compile(r"\b\w+_token\b")

Templates = Mapping[str, data.ChatTemplate | None]


def date_of(run: pathlib.Path) -> datetime.date:
  """The day that a run began; today for one that begins.

  Raises:
    UserError: run.json is damaged.
  """
  if not (run / "run.json").exists():
    return _today()
  return folders.date_of(run) or _today()


def _today() -> datetime.date:
  return datetime.date.today()


def ended(
  tokenizer: data.Tokenizer, template: data.ChatTemplate | None
) -> data.Tokenizer:
  """The tokenizer, whose responses end as a template ends a turn."""
  return tokenizer if template is None else tokenizer.ended_by(template.end)


def wheres(settings: Settings) -> dict[str, str]:
  """Each template that a config names -> the key that names it first."""
  keys = {settings.data.template: "config.data"}
  for stage in settings.stages:
    keys.setdefault(stage.data.template, f"config.{stage.name}.data")
  return {name: at for name, at in keys.items() if name}


def templates_of(
  settings: Settings, run: pathlib.Path, day: datetime.date
) -> Templates:
  """The chat template of each value that data.template has in a config.

  Args:
    settings: of the run.
    run: its folder: what it keeps is taken from there.
    day: that the run began on.

  Raises:
    UserError: one can't be read; names the key.
  """
  whole = is_kept(run)
  templates: dict[str, data.ChatTemplate | None] = {"": None}
  for name, where in wheres(settings).items():
    if whole and name != "plain":  # which is ours
      template = _kept(run, settings, name)
    else:
      template = _named(settings, name, where)
    templates[name] = template.dated(day.isoformat())
  return templates


def template_for(given: str, model: pathlib.Path) -> data.ChatTemplate | None:
  """The chat template that a command asks for; None for none.

  Args:
    given: "" for the model's own: the one that a run's data went through, or
      a checkpoint's; "none", "plain", a tokenizer's folder or a file of Jinja.
    model: folder of a run, whose date the template writes, or a checkpoint.

  Raises:
    UserError: it can't be read.
  """
  checkpoint = is_checkpoint(model)
  day = _today() if checkpoint else date_of(model)
  if given == "none":
    return None
  if given == "plain":
    return data.PLAIN_CHAT
  if given or checkpoint:
    if not given and not has_template(model):
      return None
    own = model if checkpoint else model / "tokenizer"
    template = data.load_template(given or model, tokens_of=own)
    return template.dated(day.isoformat())
  settings = parse(folders.read_json(model / "config.json"))
  names = [*wheres(settings), ""]
  return templates_of(settings, model, day)[names[0]]


def named(template: data.ChatTemplate | None) -> str:
  """The name of a template, with the date that it writes."""
  if template is None:
    return "none"
  name = template.name or "Jinja"
  writes = "strftime_now" in template.text
  return f"{name} of {template.date}" if writes else name


def has_template(folder: pathlib.Path) -> bool:
  """Whether a tokenizer's folder has a chat template."""
  if (folder / _MAIN).is_file() or (folder / "chat_template.json").is_file():
    return True
  config = folder / "tokenizer_config.json"
  return bool(read_object(config).get("chat_template"))


def source_of(settings: Settings) -> pathlib.Path | None:
  """The folder of the tokenizer that a config gives; None to train one."""
  if settings.init_from:
    return tokenizer_folder(hf.resolve(settings.init_from))
  path = settings.tokenizer.path
  return pathlib.Path(path) if path else None


def _named(settings: Settings, name: str, where: str) -> data.ChatTemplate:
  """The template of a value of data.template, found anew."""
  if name == "plain":
    return data.PLAIN_CHAT
  source = source_of(settings)
  if name != "tokenizer":
    return data.load_template(name, tokens_of=source)
  if source is None:
    raise UserError(
      f"names no folder, and {where}.template takes its template.",
      where="config.tokenizer.path",
      remedy="Name one, or set data.template to 'plain' or a file.",
    )
  return data.load_template(source)


def _file(settings: Settings, name: str) -> str:
  """Where a template is kept in the folder of the tokenizer."""
  names = wheres(settings)
  if name == next(iter(names)):
    return _MAIN
  return f"{_OTHERS}/stage_{names[name].split('.')[1]}.jinja"


def _kept(run, settings, name) -> data.ChatTemplate:
  folder = run / "tokenizer"
  template = data.load_template(folder)
  if _file(settings, name) == _MAIN:
    return template
  other = folder / _file(settings, name)
  return data.load_template(other, **template.variables)


@once
def keep(
  run: pathlib.Path,
  settings: Settings,
  tokenizer: data.Tokenizer,
  templates: Templates,
) -> None:
  """Writes tokenizer/ whole or not at all; one that is whole stays.

  Args:
    run: folder of the run.
    settings: of the run.
    tokenizer: that it uses.
    templates: of `templates_of`.
  """
  target = run / "tokenizer"
  if is_kept(run):
    clear(target)  # a process may have been killed right after
    return
  source = source_of(settings)
  with appearing(target) as partial:
    if source is None:
      tokenizer.save(partial)
    else:
      partial.mkdir()
      for name in (*hf.TOKENIZER_FILES, GENERATION, "config.json"):
        if (source / name).is_file():
          shutil.copyfile(source / name, partial / name)
    for name in wheres(settings):
      template = templates[name]
      assert template is not None
      _write(partial, _file(settings, name), template)
    ends = read_object(partial / GENERATION)
    ends["eos_token_id"] = list(tokenizer.end_ids)
    text = json.dumps(ends, indent=2) + "\n"
    (partial / GENERATION).write_text(text, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)  # an earlier version's


def _write(folder: pathlib.Path, name: str, template) -> None:
  """A template, with the special tokens that it sees where they differ."""
  path = folder / name
  path.parent.mkdir(exist_ok=True)
  path.write_text(template.text, encoding="utf-8", newline="")
  if not set(_SPECIAL.findall(template.text)):
    return
  own = data.load_template(folder).variables
  given = {
    word: template.variables.get(word, "")
    for word in sorted(set(_SPECIAL.findall(template.text)))
    if template.variables.get(word, "") != own.get(word, "")
  }
  sets = [
    f"{{% set {word} = {json.dumps(text, ensure_ascii=False)} %}}\n"
    for word, text in given.items()
    if isinstance(text, str)
  ]
  text = "".join(sets) + template.text
  path.write_text(text, encoding="utf-8", newline="")
