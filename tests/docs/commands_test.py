"""The commands of the site's pages exist, with their flags and keys."""

import pathlib
import re
import shlex

import pytest

from jalign import cli
from jalign.cli.config_file import read_config
from jalign.cli.parsing import parse
from tests.docs.pages_test import DOCS, blocks

# Functions of the pages, which commands name as my.py:NAME.
OWN = {"own_loss": "shifted_dpo", "python": "reward", "judges": "brevity"}


def _commands():
  """(page, arguments) of each command in a block without a language."""
  for path in sorted(DOCS.glob("*.md")):
    fences = re.findall(
      r"^```(\S*)\n(.*?)^```", path.read_text(), flags=re.M | re.S
    )
    shell = "".join(body for language, body in fences if not language)
    for line in shell.replace("\\\n", " ").splitlines():
      if line.startswith("jalign "):
        yield path.stem, shlex.split(line, comments=True)[1:]


COMMANDS = list(_commands())


def test_every_command_is_shown():
  assert {name for _, (name, *_) in COMMANDS} == set(cli.COMMANDS) - {
    "keys",
    "metrics",
  }


@pytest.mark.parametrize(
  "page, arguments", COMMANDS, ids=[f"{p} {' '.join(a)}" for p, a in COMMANDS]
)
def test_commands_exist(page, arguments, tmp_path, monkeypatch):
  name, *flags = arguments
  if name == "data":
    assert flags.pop(0) == "check"
  values = parse(cli.COMMANDS[name], f"jalign {name}", flags)
  if name != "train" or values.config.endswith(".py"):
    return
  own = [
    body
    for page, function in OWN.items()
    for body in blocks(page)
    if f"def {function}(" in body
  ]
  monkeypatch.chdir(tmp_path)
  pathlib.Path("my.py").write_text("\n\n".join(own))
  assert read_config(values.config, values.keys)["stages"]


def test_chats_of_the_checkpoint_page_are_read(tmp_path, monkeypatch, capsys):
  text = (DOCS / "checkpoints.md").read_text()
  shown = re.search(r'^(\{"prompt": .*?\}\]\})$', text, flags=re.M | re.S)[1]
  monkeypatch.chdir(tmp_path)
  pathlib.Path("chats.jsonl").write_text(" ".join(shown.split()))
  cli.main(["data", "check", "chats.jsonl", "--template=plain"])
  said = capsys.readouterr().out
  assert "1 pair" in said or "1 row" in said, said
