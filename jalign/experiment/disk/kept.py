"""What a run finds as it begins, and keeps: tokenizer, chat template, date.

RUN/tokenizer/ is a whole Hugging Face folder. It has the files of the tokenizer
that the run was given; chat_template.jinja, the template that writes the run's
data; generation_config.json, with the ends of a response; and, if the run comes
from a checkpoint, that checkpoint's config.json. A run that starts from this
run takes them from this folder, so that a chain of runs needs none of the
folders that it came from.
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
  """The day that a run began; today for a run that begins.

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
  """The tokenizer, with responses ending as the template ends a turn."""
  return tokenizer if template is None else tokenizer.ended_by(template.end)


def wheres(settings: Settings) -> dict[str, str]:
  """Each template that a config names -> the first section that names it."""
  keys = {settings.data.template: "config.data"}
  for stage in settings.stages:
    keys.setdefault(stage.data.template, f"config.{stage.name}.data")
  return {name: at for name, at in keys.items() if name}


def templates_of(
  settings: Settings, run: pathlib.Path, day: datetime.date
) -> Templates:
  """Loads the chat template of each value of data.template in a config.

  Args:
    settings: the run's settings.
    run: the run's folder; templates that it keeps are taken from there.
    day: the day that the run began.

  Raises:
    UserError: a template can't be read; the error names its key.
  """
  whole = is_kept(run)
  templates: dict[str, data.ChatTemplate | None] = {"": None}
  for name, where in wheres(settings).items():
    if whole and name != "plain":  # "plain" is a template of this library
      template = _kept(run, settings, name)
    else:
      template = _named(settings, name, where)
    templates[name] = template.dated(day.isoformat())
  return templates


def template_for(given: str, model: pathlib.Path) -> data.ChatTemplate | None:
  """The chat template that a command asks for; None for no template.

  Args:
    given: "" for the model's own template: the one that a run's data went
      through, or a checkpoint's; else "none", "plain", a tokenizer's folder or
      a file of Jinja.
    model: folder of a run, whose date the template writes, or of a checkpoint.

  Raises:
    UserError: the template can't be read.
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
  """The name of a template, with the date if the template writes one."""
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
  """The folder of a config's tokenizer; None if one is to be trained."""
  if settings.init_from:
    return tokenizer_folder(hf.resolve(settings.init_from))
  path = settings.tokenizer.path
  return pathlib.Path(path) if path else None


def _named(settings: Settings, name: str, where: str) -> data.ChatTemplate:
  """Loads the template that a value of data.template names."""
  if name == "plain":
    return data.PLAIN_CHAT
  source = source_of(settings)
  if name != "tokenizer":
    return data.load_template(name, tokens_of=source)
  if source is None:
    raise UserError(
      f"it names no folder, and {where}.template takes that folder's template.",
      where="config.tokenizer.path",
      remedy="Name a folder, or set data.template to 'plain' or a file.",
    )
  return data.load_template(source)


def _file(settings: Settings, name: str) -> str:
  """The file of a template in the tokenizer's folder."""
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
  """Writes tokenizer/ whole or not at all; a folder that is whole stays.

  Args:
    run: the run's folder.
    settings: the run's settings.
    tokenizer: the tokenizer that the run uses.
    templates: from `templates_of`.
  """
  target = run / "tokenizer"
  if is_kept(run):
    clear(target)  # in case a process was killed just after the rename
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
    shutil.rmtree(target, ignore_errors=True)  # written by an earlier version


def _write(folder: pathlib.Path, name: str, template) -> None:
  """Writes a template, and the special tokens that differ from the folder's."""
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
