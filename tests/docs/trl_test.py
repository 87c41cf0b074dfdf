"""The page on TRL names losses and settings that exist."""

import ast
import pathlib
import runpy

import pytest

from jalign import losses
from jalign.online import ALGORITHMS

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "make_trl.py"))
ROWS = [row for rows in SCRIPT["SECTIONS"].values() for row in rows]


def _settings(name):
  """Names of the hyperparameters of a loss, or of a preset sum."""
  if name in losses.CATALOGUE:
    return losses.hyperparameters(losses.CATALOGUE[name].function)
  assert name in losses.PRESETS, f"no loss {name!r}"
  return losses.hyperparameters(losses.PRESETS[name])


def _calls(here):
  """Yields (loss, its settings) from an expression of the right column."""
  expression = ast.parse(here, mode="eval").body
  if isinstance(expression, ast.Name):
    yield expression.id, []
    return
  assert isinstance(expression, ast.Call)
  name, keywords = expression.func.id, expression.keywords
  if name != "weighted_sum":
    yield name, [keyword.arg for keyword in keywords]
    return
  terms = [key.value for key in expression.args[0].keys]
  bound = {k.arg: [key.value for key in k.value.keys] for k in keywords}
  assert set(bound) <= set(terms), here
  for term in terms:
    yield term, bound.get(term, [])


def test_the_page_is_the_tables():
  assert (DOCS / "trl.md").read_text() == SCRIPT["page"](), (
    "run docs/make_trl.py"
  )


@pytest.mark.parametrize(
  "row", [r for r in ROWS if r.here], ids=lambda row: f"{row.trl} {row.here}"
)
def test_names_and_settings_exist(row):
  for name, settings in _calls(row.here):
    assert set(settings) <= set(_settings(name)), row


def test_what_is_missing_says_so():
  for row in ROWS:
    assert row.here or row.differs or row.versions == SCRIPT["GONE"], row


def test_algorithms_exist():
  text = (DOCS / "trl.md").read_text()
  named = [part.split('"')[1] for part in text.split("ALGORITHMS[")[1:]]
  assert named and set(named) <= set(ALGORITHMS)


def test_a_wrong_name_is_found():
  with pytest.raises(AssertionError):
    _settings("dpoo")
  assert list(
    _calls('weighted_sum({"dpo": 1, "sft": x}, dpo={"beta": b})')
  ) == [
    ("dpo", ["beta"]),
    ("sft", []),
  ]
