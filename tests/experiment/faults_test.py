"""Bad input gets one paragraph that names the place and the remedy."""

import json
import shutil

import pytest

from tests.experiment.conftest import pairs


def _with(line, position=2):
  rows = list(pairs(6))
  rows.insert(position, line)
  return rows


GOOD = {"prompt": "q:", "chosen": " a", "rejected": " b"}


@pytest.mark.parametrize(
  "line, said",
  [
    ("{not json", "not JSON"),
    ({"prompt": "q", "chosen": " a"}, "rejected"),
    (GOOD | {"chosen": "  "}, "empty"),
    (GOOD | {"rejected": " a"}, "equal"),
    (GOOD | {"chosen": 3}, "chosen"),
  ],
)
def test_a_bad_line_is_named(place, line, said):
  place.write_data(_with(line))
  message = place.fails(place.command())
  assert f"{place.data}:3" in message and said in message
  assert not (place.folder / "run").exists()


def test_a_bad_line_can_be_skipped_and_is_reported(place):
  place.align_alone()
  place.write_data([*pairs(), "{not json"])
  folder, said = place.train("--config.data.on_error=skip", "--config.steps=1")
  assert "skipped 1: 1 that are not JSON (line 41)" in said
  assert json.loads((folder / "data.json").read_text())["source"][
    "skipped"
  ] == {"json": [41]}


@pytest.mark.parametrize(
  "flags, said",
  [
    (["--config.data.path=nope.jsonl"], "nope.jsonl: there is no such file"),
    (["--config.data.source=csv"], "config.data.source: unknown source"),
    (["--config.data.max_prompt_tokens=99"], "no room for a response"),
    (["--config.loss.nope=1"], "config.loss.nope"),
    (["--config.nope=1"], "config.nope"),
    (["--nope=1"], "nope"),
    (["--config.loss.name=dpoo"], "config.loss.name: unknown loss 'dpoo'"),
    (["--config.loss.beta=-1.0"], "config.loss: beta"),
    (["--config.algorithm=onlinedpo"], "unknown algorithm"),
    (["--config.algorithm=online_dpo"], "config.annotator.function"),
    (["--config.annotator.function=no.py:f"], "config.annotator.function"),
    (["--config.mesh.tensor=3"], "mesh: .* does not make 8 devices"),
    (["--config.mesh.tensor=8"], "params .* 8 devices"),
    (["--config.batch_size=12"], "config.*batch_size: 12 .* 8 devices"),
    (["--config.microbatches=3"], "microbatches"),
    (["--config.optimizer.schedule=cos"], "optimizer.schedule"),
    (["--config.model.hidden_size=15"], "model.num_attention_heads"),
    (["--config.reference=never"], "config.*reference"),
    (["--config.keep_newest=1"], "keep_newest: must be at least 2"),
    (["--config.save_minutes=-1"], "save_minutes: must not be negative"),
    (["--config.keep_every=3"], "keep_every: 3 .* of save_every .2."),
    (["--config.packing=31"], "config.*packing: rows of 31 .* of 32"),
    (
      ["--config.algorithm=online_dpo", "--config.share_prefix=True"],
      "config.*share_prefix: samples of an online stage aren't packed",
    ),
    (
      ["--config.algorithm=online_dpo", "--config.diagnostics.samples=4"],
      "config.*diagnostics.samples: every evaluation of an online stage",
    ),
    (["--config.model.remat=all"], "model.remat: 'all' .*'none', 'block'"),
    (["--config.init_from=nowhere"], "nowhere.*no such folder"),
  ],
)
def test_a_bad_setting_names_its_key(place, flags, said):
  import re

  message = place.fails(place.command(*flags))
  assert re.search(said, message), message
  assert not (place.folder / "run").exists()


def test_a_loss_whose_input_the_data_lacks(place):
  place.align_alone()
  text = place.config.read_text().replace(
    "c.loss.beta = 0.1", 'c.loss.name = "ipo_soft"'
  )
  place.config.write_text(text)
  message = place.fails(place.command())
  assert "takes preference, which the data doesn't hold" in message
  place.write_data([row | {"preference": 0.8} for row in pairs()])
  place.train()


def test_an_unknown_key_in_the_file(place):
  text = place.config.read_text()
  place.config.write_text(
    text.replace("  return c", "  c.unlock()\n  c.data.pth = 1\n  return c")
  )
  assert "config.data.pth: is not a key" in place.fails(place.command())


def test_no_config(place):
  assert "nofile.py" in place.fails(
    ["train", "--config=nofile.py", "--workdir=x"]
  )
  assert "--workdir" in place.fails(["train", f"--config={place.config}"])
  assert "unknown command" in place.fails(["trian"])


def test_a_folder_of_another_config_is_left_alone(place, plain):
  folder = shutil.copytree(plain / "run", place.folder / "run")
  place.config = plain / "config.py"
  before = sorted(p for p in folder.rglob("*"))
  message = place.fails(place.command("--config.loss.beta=0.5"))
  assert "another config" in message and "loss.beta" in message
  assert sorted(p for p in folder.rglob("*")) == before
  (place.folder / "mine").mkdir()
  (place.folder / "mine" / "thesis.tex").write_text("x")
  message = place.fails(place.command(workdir="mine"))
  assert "not empty and not a run" in message


def test_a_loss_that_is_no_number_stops_and_keeps_what_was_saved(place):
  flags = [
    "--config.optimizer.learning_rate=1e30",
    "--config.optimizer.max_grad_norm=1e30",
    "--config.save_every=1",
    "--config.steps=30",
  ]
  message = place.fails(place.command(*flags))
  assert "at step" in message and "pairs.jsonl:" in message
  run = place.folder / "run"
  assert any((run / "sft" / "checkpoints").iterdir())
  assert any((run / "align" / "checkpoints").iterdir())
