"""The Python of the site's pages runs, from top to bottom.

Pages go on with the names of "From Python", whose small model they share.
"""

import contextlib
import pathlib
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from jalign.experiment.config import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
START = "python"
PAGES = ("own_loss", "judges", "data", "packing")


def blocks(page: str) -> list[str]:
  """The Python of a page, block by block."""
  text = (DOCS / f"{page}.md").read_text()
  return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def run(page: str, names: dict) -> dict:
  """The names that a page's Python leaves, beside those it was given."""
  names = dict(names)
  with contextlib.chdir(ROOT):
    for i, body in enumerate(blocks(page)):
      exec(compile(body, f"{page}.md, Python block {i + 1}", "exec"), names)
  return names


@pytest.fixture(scope="module")
def start():
  return run(START, {})


def test_every_page_with_python_is_run():
  pages = {path.stem for path in DOCS.glob("*.md") if blocks(path.stem)}
  assert pages == {START, *PAGES, "configs"}


def test_from_python(start):
  np.testing.assert_allclose(
    start["loss"], np.logaddexp(0, [0.0, -1.0, 0.0, -1.5]), rtol=1e-5
  )
  assert int(start["state"].step) == 21  # the online step, too
  total, count = start["sums"]["loss"]
  assert np.isfinite(total) and count > 0


@pytest.mark.parametrize("page", PAGES)
def test_pages_run(start, page):
  config = ConfigDict(parse.defaults()).lock()
  run(page, {**start, "c": config})
