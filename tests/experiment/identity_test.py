"""A run's ingredients: those that changed are named when it continues."""

import dataclasses
import datetime
import json
import shutil

import numpy as np
import pytest

from jalign import data
from jalign.errors import UserError
from jalign.experiment import identity
from jalign.experiment.config import algorithms, code
from jalign.experiment.config.parse import parse
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared, prepare
from jalign.experiment.disk import folder
from jalign.models import ModelConfig
from jalign.online import ALGORITHMS
from tests.data import chat_tokenizer

# ------------------------------------------------------------------- functions


def test_a_function_is_its_file_and_what_that_imports_from_beside(tmp_path):
  files = {
    "judge.py": "import os\nfrom words import count\nimport pack.inner\n",
    "words.py": "import json\nfrom pack import other\ndef count(): ...\n",
    "pack/__init__.py": "",
    "pack/inner.py": "from . import deep\n",
    "pack/deep.py": "x = 1\n",
    "pack/other.py": "y = 1\n",
    "alone.py": "z = 1\n",
  }
  (tmp_path / "pack").mkdir()
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  of = lambda: code.fingerprint(f"{tmp_path / 'judge.py'}:reward")
  first = of()
  for name, text in files.items():
    (tmp_path / name).write_text(f"# said anew\n\n{text}\n")
    assert of() == first  # comments and layout don't count
    (tmp_path / name).write_text(text + "more = 1\n")
    assert (of() == first) == (name == "alone.py"), name
    (tmp_path / name).write_text(text)
  assert of() == first


def test_a_function_of_a_package():
  name = "jalign.data.tldr_world:population"
  assert code.fingerprint(name) == code.fingerprint(name)
  assert code.fingerprint(name) != code.fingerprint("jalign.losses:dpo")
  assert code.fingerprint("math:sqrt")  # a built-in function has no file


# ------------------------------------------------------------------ what counts

MODEL = ModelConfig(8, 8, 8, 1, 1, 1)


class _Backend:
  def to_str(self):
    return "{}"


def _tokenizer(**changes):
  tokenizer = data.Tokenizer(_Backend(), 8, 1, 0, None, "</s>")
  return dataclasses.replace(tokenizer, **changes)


def _pair(ids=(1, 2), **changes):
  parts = [np.asarray(ids, np.int32), np.asarray([3], np.int32)]
  pair = data.EncodedPair(*parts, np.asarray([4], np.int32), "a/f.jsonl:1")
  return dataclasses.replace(pair, **changes)


def _dataset(train=(), held_out=()):
  lists = {"train_prompts": [], "eval_prompts": []}
  return Dataset(
    "pairs", list(train), list(held_out), **lists, group_of={}, buckets=(8,),
    pad_id=0, facts={}, lines=(),
  )  # fmt: skip


def _settings(**changes):
  """Settings of an offline stage, and of an online stage with a best state."""
  config = {
    "data": {"path": "d"},
    "stages": ("sft", "online"),
    "sft": {
      "loss": {"name": "sft"},
      "data": {"path": "other"},
      "algorithm": "",
      "select": "",
    },
    "algorithm": "online_dpo",
    "loss": {"beta": 0.1},
    "select": "samples/win_rate",
    "steps": 1,
    "annotator": {"function": "jalign.data.tldr_world:population"},
  }
  return parse(config | changes)


def _made_of(
  settings, model=MODEL, train=(), held_out=(), chat="", **tokenizer
):
  main = _dataset(train, held_out)
  stages = {"sft": _dataset([_pair()]), "online": main}
  chats = {"": None, "plain": dataclasses.replace(data.PLAIN_CHAT, text=chat)}
  day = datetime.date(2026, 1, 1)
  prepared = Prepared(_tokenizer(**tokenizer), main, stages, (), chats, day)
  return identity.made_of(settings, prepared, model)


def test_everything_that_decides_the_numbers_counts():
  settings = _settings()
  base = _made_of(settings, train=[_pair()], held_out=[_pair()])
  assert {"data.train", "sft.data.held_out", "model.rope_theta"} <= set(base)

  def changed(**changes):
    given = {"train": [_pair()], "held_out": [_pair()]} | changes
    facts = _made_of(settings, **given)
    return [name for name in base if base[name] != facts[name]]

  assert changed() == []
  assert changed(train=[_pair(source="b\\f.jsonl:1")]) == []  # a copy elsewhere
  assert changed(train=[_pair(source="f.jsonl:2")]) == ["data.train"]
  assert changed(train=[_pair(preference=0.7)]) == ["data.train"]
  assert changed(held_out=[_pair(preference=0.7)]) == ["data.held_out"]
  assert changed(held_out=[_pair(chosen_score=1.0)]) == ["data.held_out"]
  assert changed(held_out=[_pair((1,))]) == ["data.held_out"]
  moved = _pair((1,), chosen=np.asarray([2, 3], np.int32))
  assert changed(train=[moved]) == ["data.train"]
  model = dataclasses.replace(MODEL, rope_theta=5e5)
  assert changed(model=model) == ["model.rope_theta"]
  assert changed(end_ids=(1, 2)) == ["tokenizer"]
  assert changed(chat="{{ 1 }}") == ["template"]


CHAT = (
  "{{ strftime_now('%Y') }}{% for m in messages %}"
  "<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("template", ["plain", "tokenizer", "file"])
def test_a_run_that_goes_on_finds_itself_the_same(tmp_path, template):
  """It is the same, though it then reads files from its own folder."""
  path = tmp_path / "rows.jsonl"
  for i in range(20):
    pair = ("user", f"q{i}"), ("assistant", "a" * (1 + i % 3))
    turns = [{"role": role, "content": text} for role, text in pair]
    with path.open("a") as file:
      file.write(json.dumps({"messages": turns}) + "\n")
  (tmp_path / "chat.jinja").write_text(CHAT)
  changes = {"tokenizer": {"vocab_size": 272}}
  if template != "plain":
    folder_ = chat_tokenizer.write(tmp_path / "chat")
    changes = {"tokenizer": {"path": str(folder_)}}
  if template == "file":
    template = str(tmp_path / "chat.jinja")
  rows = {"source": "conversations", "path": str(path), "template": template}
  rows["eval_fraction"] = 0.5
  settings = parse({"data": rows, "loss": {"name": "sft"}} | changes)
  run = tmp_path / "run"
  first = prepare(settings, run, None)
  folder.claim(run, {})
  folder.describe(run, MODEL, ("train",), first.day)
  first.save(run, settings)
  (tmp_path / "chat.jinja").unlink()
  again = prepare(settings, run, None)
  before, after = (
    identity.made_of(settings, prepared, MODEL) for prepared in (first, again)
  )
  assert before == after and "template" in before


def test_each_function_counts(tmp_path):
  parts = ("function", "measures", "opponents")
  paths = {part: tmp_path / f"{part}.py" for part in (*parts, "report")}
  for path in paths.values():
    path.write_text("def f(): ...\n")
  settings = _settings(
    annotator={part: f"{paths[part]}:f" for part in parts},
    report=f"{paths['report']}:f",
  )
  before = _made_of(settings)
  for part, path in paths.items():
    path.write_text("def f(): return 1\n")
    after = _made_of(settings)
    name = part if part == "report" else f"annotator.{part}"
    assert [n for n in after if after[n] != before[n]] == [name]
    before = after


def test_an_id_is_kept_and_no_other_run_has_it(tmp_path):
  identities = [
    identity.check(tmp_path / n, _settings(), OF) for n in ("a", "b")
  ]
  assert identities[0]["id"] != identities[1]["id"] != ""
  identity.keep(tmp_path / "a", identities[0])
  other = OF | {"data.held_out": "x"}  # nothing has been trained yet
  again = identity.check(tmp_path / "a", _settings(), other)
  assert again == identities[0] | {"made_of": other}


def test_a_stage_needs_what_its_parameters_come_from():
  settings = _settings()
  of = _made_of(settings)
  sft, online = (
    {n for n in identity.needed_by(settings, stage, of) if "model" not in n}
    for stage in settings.stages
  )
  assert sft == {"sft.data.train"}
  assert online == {
    "data.train", "data.held_out", "annotator.function", "tokenizer",
  }  # fmt: skip


# ------------------------------------------------------------- continuing a run


@pytest.fixture
def begun(tmp_path):
  """A run's folder in which the first stage has begun."""
  (tmp_path / "sft" / "checkpoints" / "2").mkdir(parents=True)
  identity.keep(tmp_path, NEW)
  return tmp_path


OF = {"annotator.function": "a", "sft.data.train": "b", "data.held_out": "c"}
NEW = {"id": "x", "made_of": OF, "went_on": []}
ANYWAY = "--config.resume=anyway"


def test_nothing_changed(begun):
  more = OF | {"of a later version": "d"}
  record = identity.check(begun, _settings(), more)
  assert record == {"id": "x", "made_of": more, "went_on": []}


@pytest.mark.parametrize("name", ["annotator.function", "data.held_out"])
def test_what_only_judges_may_change_where_that_is_agreed_to(
  begun, name, capsys
):
  now = OF | {name: "x"}
  with pytest.raises(UserError, match=f"{name} changed since") as e:
    identity.check(begun, _settings(), now)
  assert ANYWAY in str(e.value) and str(begun) in str(e.value)
  record = identity.check(begun, _settings(resume="anyway"), now)
  assert name in capsys.readouterr().out
  assert record["made_of"] == now
  assert [x["changed"] for x in record["went_on"]] == [[name]]
  identity.keep(begun, record)
  assert identity.went_on(begun) == [name] and identity.id_of(begun) == "x"
  assert identity.check(begun, _settings(), now) == record  # it was agreed to


def test_what_a_stage_was_trained_from_may_not_change(begun):
  now = OF | {"sft.data.train": "x"}
  for answer in ("", "anyway"):
    with pytest.raises(UserError, match="sft from sft.data.train") as e:
      identity.check(begun, _settings(resume=answer), now)
    assert "Delete" in str(e.value) or "delete" in str(e.value)
  shutil.rmtree(begun / "sft")  # as the message says
  assert identity.check(begun, _settings(), now)["made_of"] == now
  # The online stage needs the annotator, once it has begun.
  identity.keep(begun, NEW)
  (begun / "online" / "checkpoints" / "2").mkdir(parents=True)
  with pytest.raises(UserError, match="online from annotator.function") as e:
    identity.check(
      begun, _settings(resume="anyway"), OF | {"annotator.function": "x"}
    )
  assert "whole file" not in str(e.value)
  of = OF | {"report": "r"}
  identity.keep(begun, NEW | {"made_of": of})
  with pytest.raises(UserError, match="hashed with its whole file"):
    identity.check(
      begun,
      _settings(resume="anyway"),
      of | {"annotator.function": "x", "report": "x"},
    )


def test_folders_of_before_go_on(begun):
  (begun / identity.NAME).unlink()
  record = identity.check(begun, _settings(), OF)
  assert record == NEW | {"id": ""}
  (begun / identity.NAME).write_text("[]")
  with pytest.raises(UserError, match="is damaged"):
    identity.check(begun, _settings(), OF)
  said = "config.resume: 'perhaps' is not 'anyway'"
  with pytest.raises(UserError, match=said):
    _settings(resume="perhaps")


def test_a_row_of_ones_own_is_its_file(tmp_path, monkeypatch):
  file = tmp_path / "rows.py"

  def made_of(text):
    file.write_text(text)
    names = {}
    exec(compile(text, str(file), "exec"), names)
    row = ALGORITHMS["online_ipo"]._replace(arrange=names["arrange"])
    monkeypatch.setitem(ALGORITHMS, "mine", row)
    return algorithms.fingerprint("mine")

  first = made_of("def arrange(judged):\n  return judged\n")
  assert first and first == made_of("def arrange(judged): return judged  # !\n")
  assert first != made_of("def arrange(judged):\n  return -judged\n")
  assert algorithms.fingerprint("online_ipo") == ""
  assert algorithms.fingerprint("nobody's") == ""
  settings = parse(
    {
      "stages": ("online",),
      "algorithm": "mine",
      "steps": 1,
      "data": {"path": "x"},
    }
  )
  name = "algorithm mine"
  needed = identity.needed_by(settings, settings.stages[0], {name: first})
  assert needed == {name: first}
