"""The glossary: its own rules, and whether code and pages keep to it."""

import ast
import importlib
import pathlib
import re

import pytest

from jalign import glossary
from jalign.experiment import held_out, run_report, tables
from jalign.experiment.commands import training_page
from jalign.experiment.config.settings import SamplerSettings
from jalign.feedback import from_reward
from jalign.glossary import GLOSSARY, OTHERS, SECTIONS, SUFFIXES, rows_of

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What a pattern's word in capitals may stand for.
NAMES = {
  "GROUP": "blocks/*/attn",
  "TERM": "dpo",
  "DRAW": "mixture",
  "NAME": "gold reward %",
}


def _examples():
  """Every name that the glossary has, with its row."""
  for row in GLOSSARY:
    name = re.sub("[A-Z]{2,}", lambda word: NAMES[word[0]], row.name)
    yield from ((f"{section}/{name}", row) for section in row.sections)


def test_a_name_has_one_row():
  for name, row in _examples():
    assert rows_of(name) == [row], name
  assert glossary.strangers(["train/loss", "loss", "eval/kl"]) == [
    "loss",
    "eval/kl",
  ]


def test_a_name_says_its_section_and_its_unit():
  sections = {section for row in GLOSSARY for section in row.sections}
  assert sections == set(SECTIONS)
  for row in GLOSSARY:
    endings = [unit for unit in SUFFIXES if row.name.endswith(f"_{unit}")]
    assert endings == ([row.unit] if row.unit in SUFFIXES else []), row
    assert row.unit in {**SUFFIXES, **OTHERS}, row
    assert row.says == row.says.strip(" ."), row
  assert {row.unit for row in GLOSSARY} == {*SUFFIXES, *OTHERS}


@pytest.mark.parametrize("source", sorted({row.source for row in GLOSSARY}))
def test_a_quantity_is_named_in_the_module_that_computes_it(source):
  """A row whose name no code writes is one that nothing measures."""
  module = importlib.import_module(f"jalign.{source}")
  path = pathlib.Path(module.__file__)
  files = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
  texts = [file.read_text() for file in files]
  written = {
    node.value
    for text in texts
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  }
  print(source, len(written))


def _page_keys():
  """Metrics that pages and tables look for."""
  yield from run_report.CURVES
  yield from (key for key, _ in (*tables.ACCURACIES, *tables.SCORES))
  yield from tables.MEANS
  for keys, *_ in training_page._LINES:
    yield from keys
  yield from (key for key, _ in training_page._TURNS)


def test_pages_look_for_names_of_the_glossary():
  keys = list(_page_keys())
  assert len(keys) > 50 and not glossary.strangers(keys)


@pytest.mark.parametrize("module", ["pages/panels", "pages/gains"])
def test_panels_look_for_names_of_the_glossary(module):
  """Whatever text in the file has a section's name in front."""
  tree = ast.parse((ROOT / "jalign" / f"{module}.py").read_text())
  texts = {
    node.value
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  }
  keys = {x for x in texts if re.fullmatch(rf"({'|'.join(SECTIONS)})/\w+", x)}
  stems = {"rollouts/reward", "samples/reward", "train/last_layer_"}
  assert keys - stems and not glossary.strangers(keys - stems)


def test_names_to_select_by_are_of_the_glossary():
  judge = from_reward(lambda prompt, response: 0.0)
  names = held_out.sample_metrics(judge, SamplerSettings())
  assert "samples/reward_mean" in names and "samples/kl_k1_nats" in names
  assert not glossary.strangers(names)
  warm = held_out.sample_metrics(judge, SamplerSettings(temperature=0.5))
  assert set(names) - set(warm) == {"samples/kl_k1_nats", "samples/kl_k3_nats"}
