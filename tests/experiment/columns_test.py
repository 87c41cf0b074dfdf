"""A config maps the columns of its data."""

import json

import pytest

from jalign import data
from jalign.errors import UserError
from jalign.experiment.commands.prompts import read_prompts
from jalign.experiment.commands.score_data import read_responses
from jalign.experiment.config.parse import parse
from jalign.experiment.data.source import read_records


def _config(path, **data):
  return {"data": {"path": str(path)} | data, "loss": {"name": "dpo"}}


def test_columns_of_a_config(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps({"q": "a", "chosen": "b", "rejected": "c"}) + "\n")
  config = _config(path, columns={"prompt": "q"})
  config["stages"] = ("sft", "align")
  config["sft"] = {
    "loss": {"name": "sft"},
    "data": {"columns": {"prompt": "z"}},
  }
  settings = parse(config)
  assert hash(settings.data) == hash(settings.stage("align").data)
  (record,), _ = read_records(settings.data, str(path), None, "config.data")
  assert record.prompt == "a"
  own = settings.stage("sft").data
  with pytest.raises(UserError, match="no column 'z'"):
    read_records(own, str(path), None, "config.sft.data")
  wrong = parse(_config(path, columns={"promt": "q"})).data
  with pytest.raises(UserError, match="config.data.columns: the source reads"):
    read_records(wrong, str(path), None, "config.data")
  for columns in ({"prompt": 3}, ("prompt",), "prompt"):
    with pytest.raises(UserError, match=r"config.data.columns"):
      parse(_config(path, columns=columns))


def test_columns_of_a_command(place):
  rows = [json.loads(line) for line in place.data.read_text().splitlines()]
  place.write_data({"q": row.pop("prompt"), **row} for row in rows)
  text = place.config.read_text()
  for column, said in (("qq", "Did you mean 'q'?"), ("q", "don't divide")):
    mapped = f'  c.data.columns = {{"prompt": "{column}"}}\n  return c'
    place.config.write_text(text.replace("  return c", mapped))
    assert said in place.fails(place.command("--config.batch_size=9"))


def test_commands_read_files_whose_columns_have_other_names(tmp_path):
  file = tmp_path / "rows.jsonl"
  rows = [
    {"question": f"q{i}:", "good": " yes", "bad": " no", "tools": None}
    for i in range(3)
  ]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
  asked, _ = read_prompts(str(file), "", None, names)
  assert [ask.prompt for ask in asked] == ["q0:", "q1:", "q2:"]
  tokenizer = data.train_bpe(["q: yes no"], 270)
  read = read_responses(
    str(file), "", "none", tmp_path, tokenizer, columns=names
  )
  assert [r.response for r in read.responses[:2]] == [" yes", " no"]
  with pytest.raises(UserError, match="'answer'"):
    read_prompts(str(file), "pairs", None, names | {"chosen": "answer"})
