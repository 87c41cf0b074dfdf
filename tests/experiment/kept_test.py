"""Values that a run derives when it begins are kept, along a chain of runs.

The chain is a checkpoint, a run of SFT from the checkpoint, and a run of DPO
from that run. Then the first two are deleted.
"""

import datetime
import json
import shutil

import pyarrow.parquet as pq
import pytest
import transformers

from jalign import cli, data
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import kept
from jalign.experiment.disk.folder import read_json
from jalign.experiment.disk.start import tokenizer_folder
from tests.data import chat_tokenizer, families
from tests.experiment.checkpoint_test import CONFIG, SMALL, _rows
from tests.models.hf import cases, parity_test

# A template whose text differs from day to day.
DATED = "{{ strftime_now('%d %b %Y') + '\n' }}" + chat_tokenizer.CHATML
DAY = datetime.date(2024, 2, 29)
SETTINGS = {"temperature": 0.5, "do_sample": True, "eos_token_id": [256, 257]}


def _train(folder, start, rows, *flags):
  values = SMALL | {"init_from": start, "data.path": rows, "steps": 1}
  values |= {"judge": False, "data.buckets": "(64,)"}
  values |= {"data.max_prompt_tokens": 48, "data.max_response_tokens": 16}
  cli.main(
    ["train", f"--config={CONFIG}{flags[0]}", f"--workdir={folder}"]
    + [f"--config.{key}={value}" for key, value in values.items()]
    + list(flags[1:])
  )
  return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """A folder with runs "dpo" and "gone/sft", which come from "gone/start"."""
  folder = tmp_path_factory.mktemp("chain")
  rows = folder / "pairs.jsonl"
  rows.write_text("".join(json.dumps(row) + "\n" for row in _rows(12)))
  described = json.loads(str(parity_test.GOLDEN["qwen3/json"]))
  config = described["config"] | {"vocab_size": 272, "eos_token_id": 256}
  config["max_position_embeddings"] = 77
  shapes = described["shapes"] | {"model.embed_tokens.weight": (272, 16)}
  start = folder / "gone" / "start"
  cases.write(start, config, shapes)
  chat_tokenizer.write(start, template=DATED)
  (start / "generation_config.json").write_text(json.dumps(SETTINGS))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(kept, "_today", lambda: DAY)
    sft = _train(folder / "gone" / "sft", start, rows, ":sft")
    _train(folder / "dpo", sft, rows, ":dpo")
  (folder / "gone").rename(folder / "elsewhere")
  return folder


def _same_text(folder):
  """Asserts that a folder's template writes the same text as the kept one."""
  message = [{"role": "user", "content": "q"}]
  template = data.load_template(folder).dated(DAY.isoformat())
  text = template.render(message, prompt=True)
  assert text.startswith("29 Feb 2024\n<|im_start|>user\nq<|im_end|>")
  return text


def test_the_folder_is_whole(chain):
  run, start = chain / "dpo", chain / "elsewhere" / "start"
  assert read_json(run / "run.json")["date"] == "2024-02-29"
  folder = run / "tokenizer"
  for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
    assert (folder / name).read_bytes() == (start / name).read_bytes()
  assert _same_text(folder) == _same_text(start)
  ours, theirs = data.load(folder), data.load(start)
  assert ours.backend.to_str() == theirs.backend.to_str()
  assert read_json(folder / "generation_config.json") == SETTINGS
  assert ours.end_ids == theirs.end_ids == (256, 257)
  assert not list(run.glob("*.partial"))


def test_the_export_of_a_chain(chain, tmp_path):
  target = tmp_path / "export"
  cli.main(["convert", f"--model={chain / 'dpo'}", f"--to={target}"])
  assert _same_text(target) == _same_text(chain / "dpo" / "tokenizer")
  config = json.loads((target / "config.json").read_text())
  assert config["max_position_embeddings"] == 77
  assert read_json(target / "generation_config.json") == SETTINGS
  tokenizer = transformers.AutoTokenizer.from_pretrained(str(target))
  assert tokenizer.chat_template == DATED


def _scored(model, chain, out, *flags):
  command = ["score", f"--model={model}", f"--data={chain / 'pairs.jsonl'}"]
  cli.main([*command, f"--out={out}", *flags])
  return pq.read_table(out).to_pylist()


def test_another_day_gives_the_same_text(chain, tmp_path, monkeypatch, capsys):
  run, table = chain / "dpo", tmp_path / "x.parquet"
  monkeypatch.setattr(kept, "_today", lambda: DAY)
  first = _scored(run, chain, table)
  monkeypatch.setattr(kept, "_today", lambda: datetime.date(2031, 7, 1))
  assert _scored(run, chain, table) == first
  text = kept.template_for("", run).render([], prompt=True)
  assert text.startswith("29 Feb 2024\n")
  # A checkpoint doesn't keep a day.
  text = kept.template_for("", chain / "elsewhere" / "start").render([])
  assert text == "01 Jul 2031\n"
  capsys.readouterr()
  cli.main(["evaluate", f"--model={run}"])
  assert "held-out pairs" in capsys.readouterr().out


def test_resumes_on_another_day(chain, tmp_path, monkeypatch, capsys):
  (chain / "elsewhere").rename(chain / "gone")
  run = tmp_path / "again"
  shutil.copytree(chain / "dpo", run)
  monkeypatch.setattr(kept, "_today", lambda: datetime.date(2031, 7, 1))
  try:
    _train(run, chain / "gone" / "sft", chain / "pairs.jsonl", ":dpo")
  finally:
    (chain / "gone").rename(chain / "elsewhere")
  assert "resumes at step 1" in capsys.readouterr().out
  assert read_json(run / "run.json")["date"] == "2024-02-29"


def test_a_file_sees_the_special_tokens_of_the_tokenizer(tmp_path):
  """A template in a file writes the same as the tokenizer's own."""
  folder = families.phi(tmp_path / "phi")
  (folder / "config.json").write_text("{}")  # as a checkpoint has it
  given = tmp_path / "phi.jinja"
  given.write_text(families.PHI)
  talk = [{"role": "user", "content": "a"}]
  own, file = (kept.template_for(name, folder) for name in ("", str(given)))
  assert (
    file.render(talk)
    == own.render(talk)
    == "<|user|>\na<|end|>\n" + ("<|endoftext|>")
  )


def test_templates_of_other_folders_keep_their_words(tmp_path):
  """Stages have their own templates, with different special tokens."""
  own = chat_tokenizer.write(tmp_path / "own")
  text = "{{ bos_token }}" + chat_tokenizer.CHATML + "{{ eos_token }}"
  other = chat_tokenizer.write(tmp_path / "other", template=text, bos="<s>")
  file = tmp_path / "third.jinja"
  file.write_text("  {% if true %}\n[{{ messages[0].content }}]{% endif %}")
  config = {"tokenizer": {"path": str(own)}, "stages": ("a", "b")}
  config |= {"data": {"template": str(other), "path": "x.jsonl"}}
  config |= {"a": {"data": {"template": str(file)}}}
  settings = parse(config | {"model": {"hidden_size": 8}})
  run = tmp_path / "run"
  run.mkdir()
  templates = kept.templates_of(settings, run, DAY)
  kept.keep(run, settings, data.load(own), templates)
  for gone in (own, other):
    shutil.rmtree(gone)
  file.unlink()
  again = kept.templates_of(settings, run, DAY)
  messages = [{"role": "user", "content": "q"}]
  assert again.keys() == {"", str(other), str(file)} and again[""] is None
  for name in (str(other), str(file)):
    text = templates[name].render(messages)
    assert again[name].render(messages) == text
    assert again[name].end == templates[name].end
  assert again[str(other)].render(messages).startswith("<s><|im_start|>user")
  assert again[str(file)].render(messages) == "[q]"
  tokenizer = transformers.AutoTokenizer.from_pretrained(str(run / "tokenizer"))
  theirs = tokenizer.apply_chat_template(messages, tokenize=False)
  assert theirs == templates[str(other)].render(messages)


def test_a_folder_of_an_earlier_version(tmp_path):
  """It kept no template, so its start's checkpoint provides it."""
  start = chat_tokenizer.write(tmp_path / "start")
  (start / "config.json").write_text("{}")
  for name, before in (("first", start), ("second", tmp_path / "first")):
    run = tmp_path / name
    data.load(start).save(run / "tokenizer")
    (run / "tokenizer" / "generation_config.json").unlink()
    (run / "run.json").write_text("{}")
    (run / "config.json").write_text(json.dumps({"init_from": str(before)}))
    assert tokenizer_folder(run) == start
  shutil.rmtree(start)
  assert tokenizer_folder(tmp_path / "second") == tmp_path / "first/tokenizer"
