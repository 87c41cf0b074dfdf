"""The README is right about its code, counts, files and commands."""

import contextlib
import io
import pathlib
import re
import shlex

import numpy as np
import pytest

from jalign import cli, losses
from jalign.cli import solver_race
from jalign.cli.config_file import read_config
from jalign.cli.parsing import parse as parse_flags
from jalign.models.hf.families import FAMILIES
from jalign.online import ALGORITHMS

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.M | re.S)
PYTHON = [body for language, body in FENCES if language == "python"]
SHELL = "".join(body for language, body in FENCES if not language)
COMMANDS = [
  shlex.split(line)
  for line in SHELL.replace("\\\n", " ").splitlines()
  if line.startswith("jalign ")
]


def test_its_length_is_a_screen_and_a_half():
  assert len(TEXT.encode()) <= 8192


def test_its_loss_is_the_formula():
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    for body in PYTHON:
      exec(compile(body, "README.md", "exec"), {})
  margins = np.array(
    [2.0 - 0.5, -0.5 + 0.5]
  )  # of the policy over the reference
  expected = np.log1p(np.exp(-0.1 * margins))
  shown = [
    float(number) for number in re.findall(r"\d\.\d+", printed.getvalue())
  ]
  np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_counts():
  at_least = int(re.search(r"more than (\d+), for pairs", TEXT)[1])
  assert len(losses.CATALOGUE) > at_least
  families = int(re.search(r"(\d+) families of checkpoints", TEXT)[1])
  assert families == len(FAMILIES)


def test_solvers_and_algorithms():
  entrants = solver_race.entrants(0.1)
  assert "nine solvers" in TEXT and len(entrants) == 9
  assert int(re.search(r"(\d+) algorithms on one loop", TEXT)[1]) == len(
    ALGORITHMS
  )


def test_files_exist():
  links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
  assert len(links) > 10
  assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_and_their_flags_exist(capsys):
  assert {name for _, name, *_ in COMMANDS} == {"train", "sample", "convert"}
  for _, name, *flags in COMMANDS:
    with pytest.raises(SystemExit) as ended:
      cli.main([name, "--help"])
    assert ended.value.code == 0
    usage = capsys.readouterr().out
    own = [f for f in flags if not f.startswith("--config.")]
    assert [f for f in own if f.partition("=")[0] not in usage] == []


def test_configs_and_their_keys_exist():
  trained = [flags for _, name, *flags in COMMANDS if name == "train"]
  trained += [
    [f"--config={name}"] for name in re.findall(r"`--config=(.+?)`", TEXT)
  ]
  assert len(trained) == 3
  for flags in trained:
    command = [*flags, "--workdir=run"]
    values = parse_flags(cli.COMMANDS["train"], "jalign train", command)
    assert read_config(values.config, values.keys)["stages"]
