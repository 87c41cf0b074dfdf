"""Builds the site: make docs. Pages are Markdown, docstrings plain text."""

import pathlib
import re

import optax
from numpy.typing import ArrayLike

import jalign
from jalign import glossary, losses
from jalign.cli import algorithm_catalogue, loss_tables
from jalign.experiment.config import keys
from jalign.training.kinds import KINDS

ROOT = pathlib.Path(__file__).resolve().parents[1]

project = "jalign"
author = "The jalign authors"
copyright = author
release = jalign.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.py"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"jalign {release}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "none"
smartquotes_action = "D"  # the dash after the name of a parameter
toc_object_entries_show_parents = "hide"
add_module_names = False
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
# Fields of records are what their constructors take.
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_numpy_docstring = False

# Pages of this folder that show a file of the repository.
SHOWN = {
  "index": "README.md",
  "notebooks": "notebooks/README.md",
  "contributing": "CONTRIBUTING.md",
  "decisions": "DECISIONS.md",
  "changelog": "CHANGELOG.md",
}
COLAB = (
  "https://colab.research.google.com/github/jalign/jalign/blob/main/notebooks/"
)
SECTION = re.compile(
  r"^(?=(?:Args|Attributes|Raises|Returns|Yields):$)", flags=re.M
)


def _fill(app, docname, source):
  """Puts a file of the repository, or the losses, where a page wants them."""
  if docname in SHOWN:
    text = (ROOT / SHOWN[docname]).read_text()
    text = text.replace("](docs/", "](")
    text = re.sub(r"\]\((\w+\.ipynb)\)", rf"]({COLAB}\1)", text)
    for page, path in SHOWN.items():
      text = text.replace(f"]({path}", f"]({page}.md")
    source[0] = source[0].replace("<!-- text -->", text)
  source[0] = source[0].replace("<!-- tables -->", _tables())
  source[0] = source[0].replace("<!-- catalogue -->", _losses())
  source[0] = source[0].replace("<!-- functions -->", _functions())
  source[0] = source[0].replace("<!-- kinds -->", _kinds())
  results = ROOT / "experiments/results/online_rows.md"
  measured = re.search(r"^100 steps.*", results.read_text(), re.M | re.S)
  source[0] = source[0].replace("<!-- results -->", measured[0])
  algorithms = algorithm_catalogue.markdown_table()
  source[0] = source[0].replace("<!-- algorithms -->", algorithms)
  source[0] = source[0].replace("<!-- metrics -->", glossary.markdown())
  source[0] = source[0].replace("<!-- keys -->", keys.markdown())


def _tables() -> str:
  """Tables of the losses; a name leads to the loss's entry."""
  return re.sub(
    r"^\| `(\w+)` \|",
    r"| {py:func}`\1 <jalign.losses.\1>` |",
    loss_tables.markdown_table(),
    flags=re.M,
  )


def _losses() -> str:
  """Losses by kind of batch."""
  parts = ["## Every loss"]
  for kind, entries in loss_tables.groups().items():
    parts += [f"### On {kind}", *map(_entry, entries)]
  return "\n\n".join(parts)


def _kinds() -> str:
  """A table of the kinds of batch: the names that losses may take."""
  rows = [("kind", "an example", "the batch gives", "from elsewhere")]
  rows += [("---",) * 4]
  rows += [
    (
      f"`{name}`",
      kind.about,
      _named_axes(kind.gives),
      _named_axes(kind.elsewhere),
    )
    for name, kind in KINDS.items()
  ]
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _named_axes(axes) -> str:
  return ", ".join(f"`{name}` [{letters}]" for name, letters in axes.items())


def _functions() -> str:
  """What jalign.losses has beside the losses."""
  public = [
    name
    for name, value in vars(losses).items()
    if callable(value) and not name.startswith("_")
  ]
  return "\n\n".join(
    _entry(name) for name in sorted(public) if name not in losses.CATALOGUE
  )


def _entry(name: str) -> str:
  kind = "class" if isinstance(getattr(losses, name), type) else "function"
  return f"```{{eval-rst}}\n.. auto{kind}:: jalign.losses.{name}\n```"


def _plain(app, what, name, obj, options, lines):
  """A docstring's plain text as reStructuredText, before napoleon reads it."""
  text, *sections = SECTION.split("\n".join(lines))
  paragraphs = [
    _literal(part) if _is_literal(part) else _escaped(part)
    for part in text.split("\n\n")
  ]
  text = "\n\n".join([*paragraphs, *map(_escaped, sections)])
  lines[:] = text.split("\n")


def _is_literal(paragraph: str) -> bool:
  """Formulas, and what is set off by spaces."""
  return bool(re.match(r"l(_b)? = |  ", paragraph))


def _literal(paragraph: str) -> str:
  return "::\n\n" + "\n".join(f"  {line}" for line in paragraph.split("\n"))


def _escaped(text: str) -> str:
  """Code in single backticks as literals; nothing else is markup, but lists."""
  parts = re.split(r"(`[^`]+`)", text)
  parts[::2] = [
    re.sub(r"[*](?! )|(?<!^)(?<!\n)[*]|[|\\]|_(?!\w)|:(?=\w)", r"\\\g<0>", part)
    for part in parts[::2]
  ]
  for i in range(1, len(parts), 2):
    glued = parts[i + 1][:1].isalnum()  # the s of `Entry`s
    parts[i] = f"`{parts[i]}`" + ("\\ " if glued else "")
  return "".join(parts)


def _skip(app, what, name, obj, skip, options):
  """Leaves out what NamedTuple and flax add to a record."""
  doc = getattr(obj, "__doc__", None) or ""
  if doc.startswith("Alias for field number") or name == "replace":
    return True
  return None


def _shorter(app, what, name, obj, options, signature, returned):
  """Of a loss the names alone: its docstring has the shapes."""
  if any(entry.function is obj for entry in losses.CATALOGUE.values()):
    pattern = r": (?:~?(?:\w+\.)*Array|float|int)\b"
    return re.sub(pattern, "", signature or ""), ""
  return tuple(_with_aliases(text) for text in (signature, returned))


def _with_aliases(text):
  """The names of aliases that autodoc has spelled out."""
  from sphinx.util.typing import stringify_annotation

  aliases = {"ArrayLike": ArrayLike, "OptState": optax.OptState}
  for name, alias in aliases.items():
    text = text and text.replace(stringify_annotation(alias, "smart"), name)
  return text


def setup(app):
  app.connect("source-read", _fill)
  app.connect("autodoc-process-docstring", _plain, priority=400)
  app.connect("autodoc-process-signature", _shorter)
  app.connect("autodoc-skip-member", _skip)
