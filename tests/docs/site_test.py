"""The site has every package and page; docstrings are plain text in it."""

import inspect
import pathlib
import re
import runpy

import pytest

from jalign import losses

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CONF = runpy.run_path(str(DOCS / "conf.py"))
# Modules that people run or read, and don't import.
PROGRAMS = {
  "__init__",
  "__main__",
  "address",
  "cli",
  "cluster",
  "configs",
  "device_grid",
  "experiment",
  "files",
  "glossary",
  "heartbeat",
  "hosts",
  "lookup",
  "messages",
  "plan",
  "preemption",
}


def test_every_package_has_a_page():
  pages = "".join(path.read_text() for path in DOCS.glob("api/*.md"))
  shown = set(re.findall(r"(?:automodule::|#) jalign\.(\w+)", pages))
  modules = {
    path.stem
    for path in (ROOT / "jalign").iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
  }
  assert shown == modules - PROGRAMS


def test_the_contents_list_every_page():
  listed = re.findall(
    r"^([\w/]+)$", (DOCS / "index.md").read_text(), flags=re.M
  )
  pages = [
    path.relative_to(DOCS).with_suffix("").as_posix()
    for path in DOCS.rglob("*.md")
  ]
  assert sorted(listed) == sorted(set(pages) - {"index"})


def _named(text):
  return re.findall(r"auto(?:function|class):: jalign\.losses\.(\w+)", text)


def test_what_is_public_is_on_one_of_two_pages():
  shown = _named(CONF["_losses"]()) + _named(CONF["_functions"]())
  public = {
    name
    for name, value in vars(losses).items()
    if callable(value) and not name.startswith("_")
  }
  assert sorted(shown) == sorted(public)
  assert set(losses.CATALOGUE) == set(_named(CONF["_losses"]()))
  for page, mark in (("losses", "catalogue"), ("api/losses", "functions")):
    assert f"<!-- {mark} -->" in (DOCS / f"{page}.md").read_text()


@pytest.mark.parametrize("name", losses.CATALOGUE)
def test_formulas_stay_as_they_are(name):
  function = losses.CATALOGUE[name].function
  lines = inspect.getdoc(function).split("\n")
  formula = "\n".join(lines).split("\n\n")[1]
  CONF["_plain"](None, "function", name, function, None, lines)
  literal = "\n".join(f"  {line}" for line in formula.split("\n"))
  assert f"::\n\n{literal}\n" in "\n".join(lines)


def test_marks_of_plain_text_are_no_markup():
  escaped = CONF["_escaped"]
  assert escaped("|y_w| * 2, `a|b`s of ref_") == (
    r"\|y_w\| \* 2, ``a|b``\ s of ref\_"
  )
  assert escaped("* one\n* two") == "* one\n* two"


def test_the_layout_names_every_package():
  layout = (DOCS / "design.md").read_text().split("## Packages")[1]
  named = re.findall(r"^  ([\w.]+?)/?  ", layout, flags=re.M)
  inside = {
    path.name
    for path in (ROOT / "jalign").iterdir()
    if (path / "__init__.py").exists()
  }
  assert inside <= set(named)
  assert all((ROOT / "jalign" / name).exists() for name in named)
