"""The page Scale says what the plans' files say."""

import json
import shlex

import pytest

from experiments.plans import plot, tables
from experiments.plans.figures import FOLDER, figures, read
from experiments.plans.rows import (
  CACHE,
  GROWTH,
  LEVERS,
  OFFLOAD,
  PROGRAMS,
  ROWS,
)
from jalign import cli
from jalign.cli.config_file import read_config
from jalign.cli.parsing import parse
from jalign.experiment.config import parse as configs

FILES = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_the_tables_are_those_of_the_files():
  text = tables.PAGE.read_text()
  assert tables.filled(text) == text


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_command_of_its_row(name):
  row, plan = ROWS[name], read(name)
  assert shlex.split(plan["command"]) == list(row.command)
  assert plan["topology"] == row.topology
  assert "x".join(map(str, plan["mesh"].values())) == row.mesh
  made = figures(plan)
  assert sorted(f.program for f in made) == sorted(row.programs)
  assert all(f.fits for f in made) == row.fits


def test_rows_of_two_tables_have_one_command():
  for table in (PROGRAMS, GROWTH, LEVERS, OFFLOAD, CACHE):
    for name, row in table.items():
      assert row.command == ROWS[name].command


@pytest.mark.parametrize("name", ROWS)
def test_the_commands_are_commands_on_configs(name):
  _, command, *words = ROWS[name].command
  values = parse(cli.COMMANDS[command], "jalign plan", words)
  keys = [("data.path", "FILE.jsonl"), *values.keys]
  assert configs.parse(read_config(values.config, keys)).stages


def _plan(needs, sent, refused=False):
  collectives = [
    {"kind": "all-gather", "dtype": "bf16", "bytes": sent},
    {"kind": "all-to-all", "dtype": "bf16", "bytes": 1e9},
    {"kind": "reduce-scatter", "dtype": "f32", "bytes": 2 * sent},
  ]
  program = {
    "name": "align: update",
    "fits": not refused,
    "needs_bytes": needs,
    "usable_bytes": 16e9,
    "seconds": {"lower": 2.0, "compile": 61.4},
  }
  if not refused:
    program |= {
      "peak_bytes": needs - 1e8,
      "flops": needs * 1e3,
      "expected_seconds": {"at_least": 1.25},
      "bound": "links",
      "collectives": collectives,
    }
  return {"programs": [program]}


def test_a_table_says_what_needs_are_and_what_does_not_fit(tmp_path):
  files = {
    "dpo_8b_v5e": _plan(5.214e9, 4e9),
    "dpo_8b_too_large": _plan(30e9, 0, refused=True),
    **{name: _plan(2e9 * (i + 1), 4e9) for i, name in enumerate(GROWTH)},
  }
  for name, plan in files.items():
    (tmp_path / f"{name}.json").write_text(json.dumps(plan))
  text = tables.filled(tables.PAGE.read_text(), tmp_path)
  row = (
    "| v5e:8x8 | 1x64x1 | 5.11 GB | 5.21 GB | 16.0 GB | 61 s | 1.2 s, links |"
  )
  assert f"| DPO 8B, 64 pairs {row}" in text
  row = "| 1x4x1 | refused | 30.0 GB, **doesn't fit** | 16.0 GB | 61 s |  |"
  assert row in text
  grown = "| 4.00 GB | 4 TFLOP | 5.00 GB | 8.00 GB | 1.2 s, links |"
  assert f"| chips x 2 | v5e:4x8 {grown}" in text
  assert "(static/growth.png)" in text
  assert plot.ratios(tmp_path)["memory"] == [2, 3, 4]
  plot.draw(tmp_path / "growth.png", tmp_path)
  assert (tmp_path / "growth.png").stat().st_size > 1000
