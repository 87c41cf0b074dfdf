"""Losses' names, docstrings and papers."""

import ast
import inspect
import pathlib
import re

import pytest

from jalign import losses

ENTRIES = pytest.mark.parametrize("name", losses.CATALOGUE)
ARXIV = re.compile(r"\d{4}\.\d{4,5}")


@ENTRIES
def test_every_loss_is_a_name_of_the_package(name):
  assert getattr(losses, name) is losses.CATALOGUE[name].function


@ENTRIES
def test_docstring(name):
  entry = losses.CATALOGUE[name]
  text = inspect.getdoc(entry.function)
  assert "\nArgs:\n" in text and "\nReturns:\n" in text
  for parameter in inspect.signature(entry.function).parameters:
    assert f"\n  {parameter}: " in text
  _check_source(text, entry.paper)


def _check_source(text, paper):
  """Checks that a docstring cites the entry's paper, or says there is none."""
  if ARXIV.fullmatch(paper):
    cited = re.findall(rf"arXiv:({ARXIV.pattern})", text)
    assert cited[-1:] == [paper]
  elif paper:
    assert paper in " ".join(text.split())
  else:
    assert "unpublished" in text.lower() and "arXiv" not in text


def test_type_checkers_read_every_file_with_losses():
  tree = ast.parse(pathlib.Path(losses.__file__).read_text())
  read = {
    node.module
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
  }
  assert read == {e.function.__module__ for e in losses.CATALOGUE.values()}, (
    "jalign/losses/__init__.py lists the files for type checkers"
  )


def test_a_loss_may_be_unpublished():
  _check_source("Ours, unpublished.", "")
  _check_source("E. Mitchell 2023, a note.", "E. Mitchell 2023")
  for text, paper in (
    ("Ours.", ""),
    ("Unpublished; compare arXiv:2305.18290.", ""),
    ("arXiv:2305.18290", "2310.12036"),
    ("Unpublished.", "2310.12036"),
  ):
    with pytest.raises(AssertionError):
      _check_source(text, paper)
