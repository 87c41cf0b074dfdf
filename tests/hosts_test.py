"""If there are several processes, only the first writes files and lines."""

import importlib
import pathlib

import jax

from jalign import cli, hosts

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = """
from jalign.configs import dpo

def get_config():
  c = dpo.get_config("sft")
  c.stages = ("align",)
  del c["sft"]
  c.model.hidden_size = c.model.intermediate_size = 16
  c.model.num_hidden_layers = c.steps = 1
  c.epochs = c.eval_every = c.save_every = c.optimizer.warmup_steps = 0
  c.sample.prompts, c.sample.max_new_tokens = 2, 4
  return c
"""


def test_the_first_process_alone_does_what_is_done_once(monkeypatch, capsys):
  done = []
  append = hosts.once(done.append)
  for index in (1, 0, 3):
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    append(index)
    hosts.say(f"process {index}")
  assert done == [0]
  assert capsys.readouterr().out == "process 0\n"


def test_a_run_of_another_process_leaves_states_alone(
  tmp_path, monkeypatch, capsys
):
  # Its modules are imported before they could import what is patched.
  importlib.import_module("jalign.experiment.run")
  monkeypatch.chdir(ROOT)
  for module in ("hosts", "training.checkpoint"):
    monkeypatch.setattr(f"jalign.{module}.host0", lambda: False)
  for module in ("run", "stage", "disk.lock"):
    monkeypatch.setattr(f"jalign.experiment.{module}.host0", lambda: False)
  config = tmp_path / "config.py"
  config.write_text(CONFIG)
  cli.main(["train", f"--config={config}", f"--workdir={tmp_path / 'run'}"])
  written = {
    str(path.relative_to(tmp_path / "run"))
    for path in (tmp_path / "run").rglob("*")
    if path.is_file()
  }
  states = {name for name in written if "/checkpoints/1/" in name}
  assert written == states and len(states) > 2
  assert capsys.readouterr().out == ""
