"""The README's Python runs, its table is the catalogue's, its names exist."""

import contextlib
import io
import pathlib
import re
import runpy

import numpy as np
import pytest

from jalign import cli
from jalign.cli import loss_tables
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config.parse import parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.M | re.S)
PYTHON = [body for language, body in FENCES if language == "python"]
SHELL = "\n".join(body for language, body in FENCES if not language)


@pytest.fixture(scope="module")
def ran():
  """The names that the README's Python blocks leave, and what they print."""
  names: dict = {}
  printed = io.StringIO()
  with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
    for i, body in enumerate(PYTHON):
      exec(compile(body, f"README.md, Python block {i + 1}", "exec"), names)
  return names, printed.getvalue()


def test_python_trains(ran):
  names, printed = ran
  loss = float(re.search(r"loss ([0-9.]+) after 20 steps", printed)[1])
  assert loss < np.log(2)
  assert int(names["state"].step) == 21  # the online step
  assert np.isfinite(names["sums"]["loss"][0])


def test_the_sweep_is_runs(ran):
  runs = expand(ran[0]["get_config"]().to_dict())
  assert len(runs) == 6
  assert len({name for name, _ in runs}) == 6
  assert {parse(config).stages[-1].loss["beta"] for _, config in runs} == {
    0.05,
    0.2,
  }


def test_the_table_is_the_catalogues():
  script = runpy.run_path(str(ROOT / "experiments" / "readme_table.py"))
  assert loss_tables.markdown_table() in TEXT, "run experiments/readme_table.py"
  assert script["with_table"](TEXT) == TEXT, "run experiments/readme_table.py"


def test_files_exist():
  links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
  paths = re.findall(
    r"(?<![\w/])(?:experiments|notebooks|jalign|tests)/[\w./]*\w", TEXT
  )
  layout = SHELL[SHELL.index("jalign/\n") :]
  inside = re.findall(r"^  ([\w.]+/?)  ", layout, flags=re.M)
  assert links and paths and len(inside) > 10
  paths += [f"jalign/{name}" for name in inside]
  missing = [p for p in links + paths if not (ROOT / p).exists()]
  assert missing == []


def test_commands_exist(capsys):
  shown = set(re.findall(r"^jalign (\w+)", SHELL, flags=re.M))
  with pytest.raises(SystemExit):
    cli.main(["--help"])
  usage = capsys.readouterr().out
  known = set(re.findall(r"^  (\w+) +(?:--|check |RUN )", usage, flags=re.M))
  assert (
    shown
    == known
    == {
      "train",
      "sample",
      "evaluate",
      "score",
      "report",
      "convert",
      "merge",
      "data",
    }
  )
  for (
    command
  ) in known:  # not only in the usage: no flags is an error of its own
    with pytest.raises(SystemExit):
      cli.main([command])
    assert f"{command} needs" in capsys.readouterr().err
  targets = set(re.findall(r"^make ([\w-]+)", SHELL, flags=re.M))
  rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
  assert targets and targets <= set(rules)


def test_configs_and_keys_exist():
  commands = SHELL.replace("\\\n", " ").splitlines()
  trained = [line for line in commands if line.startswith("jalign train")]
  assert len(trained) >= 3
  for line in trained:
    path, argument = re.search(
      r"--config=([\w/]+\.py)(?::(\w+))?", line
    ).groups()
    get_config = runpy.run_path(str(ROOT / path))["get_config"]
    config = get_config(argument) if argument else get_config()
    for key in re.findall(r"--config\.([\w.]+)=", line):
      *path, last = key.split(".")
      section = config
      for name in path:
        section = section[name]
      assert last in section, line
