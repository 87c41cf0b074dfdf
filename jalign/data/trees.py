"""Reads OpenAssistant's trees: every prompt with ranked replies is a list.

A file holds nested trees (`{"prompt": {"text", "role", "replies": [...]}}`) or
the flat table of messages with their `parent_id`; both give the same records.
"""

from collections.abc import Iterator
from typing import Any

from jalign.data.chat import ChatTemplate
from jalign.data.containers import Rows
from jalign.data.conversations import no_template
from jalign.data.rankings import ranked
from jalign.data.reading import (
  Columns,
  Note,
  Path,
  Template,
  as_template,
  read_rows,
)
from jalign.data.rows import SKIP, BadRow, number, quoted, require, text
from jalign.data.schema import RankedRecord, Report

TREE_FIELDS = ("prompt", "message_tree_id", "tree_state", "origin")
FLAT_FIELDS = ("message_id", "parent_id", "role", "text", "rank", "deleted")
_ROLES = {"prompter": "user", "assistant": "assistant"}


def read_openassistant(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[RankedRecord], Report]:
  """Reads OpenAssistant trees, nested or as the flat table of messages.

  Every prompt of a tree with two or more ranked replies becomes a list. A
  reply's score is minus its rank. A template is needed. The split key is the
  first prompt of the tree.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    lambda row, where, note: tree_records(row, where, note, chat),
    (*TREE_FIELDS, *FLAT_FIELDS),
    "trees",
    data_dir,
    columns,
    regroup=trees_of,
  )


def tree_records(
  row: dict[str, Any],
  where: str,
  note: Note,
  template: ChatTemplate | None,
) -> list[RankedRecord]:
  """A record for every prompt of a tree that has two or more ranked replies.

  The record's prompt is the conversation down to that prompt, and a score is
  minus the rank (rank 0 is the best). Deleted messages are left out, with all
  that follows them.

  Raises:
    UserError: `template` is None.
    BadRow: a message has no text, role or rank of the right type; or no prompt
      has two ranked replies.
  """
  if template is None:
    raise no_template(where)
  root = require(row, "prompt")
  if not isinstance(root, dict):
    raise BadRow(
      "type",
      f"field 'prompt' is a {type(root).__name__}, not a message.",
      f"A tree's prompt is a message with its replies. {SKIP}",
    )
  records: list[RankedRecord] = []
  first = text(root, "text").strip()
  for path, replies in _prompts(root, note):
    ranks = [number(reply, "rank") for reply in replies]
    if sum(rank is not None for rank in ranks) < 2:
      note("alone")
      continue
    scored = [
      (text(reply, "text"), None if rank is None else -rank)
      for reply, rank in zip(replies, ranks)
    ]
    source = f"{where}#{len(records) + 1}"  # a row's records need their own
    try:
      records.append(ranked(path, scored, source, note, template, first))
    except BadRow as bad:
      if bad.args[0] != "few":
        raise
      note("alone")  # without blank replies, fewer than two are left
  if not records:
    raise BadRow(
      "few",
      "no prompt of the tree has two or more ranked replies.",
      f"Leave the tree out. {SKIP}",
    )
  return records


def _prompts(
  root: dict[str, Any], note: Note
) -> Iterator[tuple[list[dict[str, str]], list[dict[str, Any]]]]:
  """Yields (conversation down to a prompt, its replies), depth first."""
  stack: list[tuple[dict[str, Any], list[dict[str, str]]]] = [(root, [])]
  while stack:
    message, before = stack.pop()
    if message.get("deleted"):
      note("deleted")
      continue
    role = _ROLES.get(str(message.get("role")))
    if role is None:
      raise BadRow(
        "roles",
        f"a message has the role {quoted(message.get('role'))}.",
        f"The roles of a tree are prompter and assistant. {SKIP}",
      )
    path = [*before, {"role": role, "content": text(message, "text")}]
    replies = message.get("replies") or []
    if not isinstance(replies, list) or not all(
      isinstance(reply, dict) for reply in replies
    ):
      raise BadRow(
        "type",
        "the replies of a message are no list of messages.",
        f"Write them as a list of objects. {SKIP}",
      )
    if role == "user" and replies:
      present = [reply for reply in replies if not reply.get("deleted")]
      yield path, present
    stack += [(reply, path) for reply in reversed(replies)]


def trees_of(rows: Rows) -> Rows:
  """Turns the rows of a flat table of messages into nested trees.

  Rows of nested files stay as they are. A message whose parent isn't in the
  table is a bad row, and so is every message below it.
  """
  messages: dict[str, tuple[str, dict[str, Any]]] = {}
  bad: list[tuple[str, BadRow]] = []
  for where, row in rows:
    if isinstance(row, BadRow):
      bad.append((where, row))
    elif "parent_id" not in row and "message_id" not in row:
      yield where, row
    else:
      try:
        name = text(row, "message_id")
        if name in messages:
          raise BadRow(
            "repeated",
            f"the message_id {quoted(name)} comes twice.",
            f"Leave one of them out. {SKIP}",
          )
        if row.get("parent_id") is not None:
          text(row, "parent_id")
        messages[name] = (where, row | {"replies": []})
      except BadRow as error:
        bad.append((where, error))
  roots = []
  for name, (_, row) in messages.items():
    parent = row.get("parent_id")
    if parent is None:
      roots.append(name)
    elif parent in messages:
      messages[parent][1]["replies"].append(row)
  reached: set[str] = set()
  stack = list(roots)
  while stack:
    name = stack.pop()
    reached.add(name)
    stack += [r["message_id"] for r in messages[name][1]["replies"]]
  for name in roots:
    where, row = messages[name]
    yield where, {"prompt": row}
  for name, (where, row) in messages.items():
    if name not in reached:
      problem = (
        f"the parent {quoted(row['parent_id'])} leads to no first message."
      )
      bad.append(
        (
          where,
          BadRow("orphan", problem, f"Give whole trees, in one file. {SKIP}"),
        )
      )
  yield from bad
