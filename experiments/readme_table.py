"""Writes the tables of losses into README.md, from the catalogue.

python experiments/readme_table.py
"""

import pathlib
import re

from jalign.cli import loss_tables

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- losses -->\n", "<!-- /losses -->"


def with_table(text: str) -> str:
  """The README's text with the tables of the present catalogue.

  Args:
    text: a Markdown text with the two markers, once.

  Raises:
    ValueError: the markers aren't there.
  """
  pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
  table = f"{BEGIN}{loss_tables.markdown_table()}{END}"
  text, count = re.subn(pattern, lambda _: table, text, flags=re.DOTALL)
  if count != 1:
    raise ValueError(f"{count} tables between {BEGIN.strip()} and {END}.")
  return text


if __name__ == "__main__":
  README.write_text(with_table(README.read_text()))
