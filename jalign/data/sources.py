"""Sources by name; a source is a shape of rows, and has a reader.

Every reader is `(path, on_error, ...) -> (records, report)`; `reading` says
what the arguments are.
"""

from collections.abc import Callable
from typing import Any

from jalign.data.completions import (
  read_binary,
  read_conversations,
  read_demonstrations,
)
from jalign.data.containers import Path
from jalign.data.critiques import read_critiques
from jalign.data.forum import read_forum
from jalign.data.preferences import (
  read_hh,
  read_jsonl,
  read_pairs,
  read_prompts,
  read_shp,
)
from jalign.data.rankings import read_ranked, read_ultrafeedback
from jalign.data.ratings import HELPSTEER, read_ratings
from jalign.data.rows import HUMAN
from jalign.data.schema import (
  BinaryRecord,
  ConversationRecord,
  CritiqueRecord,
  DemonstrationRecord,
  PreferenceRecord,
  PromptRecord,
  RankedRecord,
  RatingRecord,
  Report,
)
from jalign.data.tldr_world.dataset import read_tldr_world
from jalign.data.trees import read_openassistant
from jalign.errors import UserError, nearest

Reader = Callable[..., tuple[list[Any], Report]]

SOURCES: dict[str, Reader] = {
  "pairs": read_pairs,
  "jsonl": read_jsonl,
  "hh": read_hh,
  "shp": read_shp,
  "demonstrations": read_demonstrations,
  "conversations": read_conversations,
  "binary": read_binary,
  "ranked": read_ranked,
  "forum": read_forum,
  "critiques": read_critiques,
  "ultrafeedback": read_ultrafeedback,
  "ratings": read_ratings,
  "openassistant": read_openassistant,
  "prompts": read_prompts,
  "tldr_world": read_tldr_world,
}

# Sources that are read without a chat template, since they hold plain texts.
WITHOUT_TEMPLATE = frozenset({"hh", "tldr_world"})


def read(name: str, path: Path, **options: Any) -> tuple[list[Any], Report]:
  """Reads `path` with the source called `name`.

  Args:
    name: a key of `SOURCES`.
    path: a file, a folder, or "tfds:...".
    **options: the reader's other arguments; for sources of `WITHOUT_TEMPLATE`
      the template must be None.

  Returns:
    (records, report); `KINDS` says what the records are.

  Raises:
    UserError: there is no such source, a template is given for a source that
      takes none, or as the reader says.
  """
  if name not in SOURCES:
    raise UserError(
      f"there is no data source {name!r}.",
      remedy=nearest(name, sorted(SOURCES)),
    )
  if name in WITHOUT_TEMPLATE and options.pop("template", None):
    raise UserError(
      f"the source {name!r} takes no template.",
      where=str(path),
      remedy="Leave the template out, or name another source.",
    )
  if name == "tldr_world" and options.pop("columns", None):
    raise UserError(
      "the source 'tldr_world' reads no file whose columns have names.",
      where=str(path),
      remedy="Leave the columns out.",
    )
  return SOURCES[name](path, **options)


# Source -> class of its records. "tldr_world" is missing: its path says which
# records it yields, and it reads no file, so that it is never guessed.
KINDS: dict[str, type] = {
  "pairs": PreferenceRecord,
  "jsonl": PreferenceRecord,
  "hh": PreferenceRecord,
  "shp": PreferenceRecord,
  "demonstrations": DemonstrationRecord,
  "conversations": ConversationRecord,
  "binary": BinaryRecord,
  "ranked": RankedRecord,
  "forum": RankedRecord,
  "critiques": CritiqueRecord,
  "ultrafeedback": RankedRecord,
  "ratings": RatingRecord,
  "openassistant": RankedRecord,
  "prompts": PromptRecord,
}


def guess_source(row: dict[str, Any]) -> str:
  """The name of the source whose shape a row has.

  Args:
    row: a row with the fields of `shape_fields`, as far as the file has them.

  Raises:
    UserError: the row has the shape of no source.
  """
  has = {key for key, value in row.items() if value is not None}
  if {"chosen_critique", "rejected_critique"} <= has:
    return "critiques"
  if {"chosen", "rejected"} <= has:
    side = row["chosen"]
    transcript = isinstance(side, str) and side.startswith(HUMAN)
    return "hh" if transcript and "prompt" not in has else "pairs"
  for name, fields in _SHAPES:
    if fields <= has:
      return name
  have = ", ".join(repr(key) for key in row if key in has) or "no field"
  raise UserError(
    f"a row with {have} has the shape of no source.",
    remedy="Say which columns hold the fields of a source, for pairs"
    " --columns=prompt=COLUMN,chosen=COLUMN,rejected=COLUMN; or name the"
    f" source: {', '.join(KINDS)}.",
  )


def shape_fields() -> set[str]:
  """The names of all fields that tell a shape."""
  return {
    *("chosen", "rejected", "parent_id"),
    *("chosen_critique", "rejected_critique"),
  }.union(*(f for _, f in _SHAPES))


# Fields that tell a shape, the most telling first.
_SHAPES = (
  ("shp", {"history", "human_ref_A", "human_ref_B"}),
  ("ultrafeedback", {"instruction", "completions"}),
  ("openassistant", {"prompt", "message_tree_id"}),
  ("openassistant", {"message_id", "text", "role"}),
  ("forum", {"question", "answers"}),
  ("ranked", {"prompt", "responses"}),
  ("ratings", {"prompt", "response", "ratings"}),
  ("ratings", {"prompt", "completion", "ratings"}),
  ("ratings", {"prompt", "response", *HELPSTEER}),
  ("binary", {"prompt", "response", "label"}),
  ("binary", {"prompt", "completion", "label"}),
  ("conversations", {"messages"}),
  ("conversations", {"conversations"}),
  ("demonstrations", {"prompt", "response"}),
  ("demonstrations", {"prompt", "completion"}),
  ("prompts", {"prompt"}),
)
