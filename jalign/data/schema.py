"""The records that every source gives, and the report of what was read."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jalign.data.rows import quoted

# What a reason reads like in a sentence: "4 with an empty response".
REASONS = {
  "unreadable": "that are not UTF-8 text",
  "json": "that are not JSON",
  "keys": "with a key that comes twice",
  "deep": "that are nested too deeply",
  "columns": "with columns of different lengths",
  "object": "that are not a JSON object",
  "missing": "with a field missing",
  "type": "with a field of the wrong type",
  "unicode": "with broken Unicode",
  "range": "with a number out of range",
  "empty_prompt": "with an empty prompt",
  "empty_response": "with an empty response",
  "identical": "whose two responses are equal",
  "transcript": "that are not a transcript",
  "diverging": "whose transcripts diverge",
  "roles": "whose turns are not a conversation",
  "mismatch": "whose prompt is not that of their conversations",
  "template": "that the chat template refuses",
  "prefix": "whose prompt the chat template changes once a response follows",
  "label": "with a label that is neither true nor false",
  "few": "with fewer than two scored responses",
  "orphan": "whose parents are missing",
  "repeated": "whose id comes twice",
  "tie": "whose scores tie",
  "contradicted": "whose scores contradict the preference",
}

# The same for parts of rows that were used without them.
PARTS = {
  "unscored": "responses without a score",
  "blank": "empty responses",
  "deleted": "deleted messages",
  "alone": "prompts with fewer than two ranked replies",
}

_LISTED = 10  # lines that a summary names for each reason


@dataclasses.dataclass(frozen=True)
class PreferenceRecord:
  """One prompt with a preferred and a dispreferred response, as text.

  The model's input is `prompt` followed directly by a response: a space or
  line break between the two belongs to one of them.

  Attributes:
    prompt: not empty.
    chosen: the preferred response, not blank.
    rejected: the other response, not blank.
    source: "file:line", 1-based; errors and batches name it.
    group: split key; records of one group never part (see `sources.split`).
    preference: P(chosen > rejected) in [0, 1], where the source has it.
    chosen_score: reward of the chosen response, where the source has it.
    rejected_score: reward of the rejected response, where the source has it.
    plain: the prompt before a conversion wrote a goal into `prompt`: what
      annotators, measures and reports see; "" where they see `prompt`.
    end: what ends a turn in texts that a chat template wrote, "" where nothing
      does: such texts have all their special tokens. None for plain texts,
      which begin and end as the tokenizer has it.
  """

  prompt: str
  chosen: str
  rejected: str
  source: str
  group: str
  preference: float | None = None
  chosen_score: float | None = None
  rejected_score: float | None = None
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class PromptRecord:
  """A prompt to generate from; the fields are `PreferenceRecord`'s."""

  prompt: str
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class DemonstrationRecord:
  """A prompt with a response to imitate; shared fields are
  `PreferenceRecord`'s."""

  prompt: str
  response: str
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class ConversationRecord:
  """A conversation whose assistant turns are all to be imitated.

  Attributes:
    messages: its turns, each with a "role" ("system", "user", "assistant" or
      "tool") and a "content" that is text; one or more is the assistant's.
    source: "file:line".
    group: split key: the first user turn.
    variables: what the chat template reads beside them: "tools", and others.
  """

  messages: tuple[Mapping[str, Any], ...]
  source: str
  group: str
  variables: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BinaryRecord:
  """A prompt with a response that is desirable or not; shared fields are
  `PreferenceRecord`'s."""

  prompt: str
  response: str
  desirable: bool
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class RankedRecord:
  """A prompt with two or more responses and a score of each.

  Attributes:
    prompt: not empty.
    responses: two or more, none blank.
    scores: one each, higher is better; finite. Equal scores are a tie.
    source: "file:line".
    group: split key.
    plain: of `PreferenceRecord`.
    end: of `PreferenceRecord`.
  """

  prompt: str
  responses: tuple[str, ...]
  scores: tuple[float, ...]
  source: str
  group: str
  plain: str = ""
  end: str | None = None


Prompted = (
  PreferenceRecord
  | PromptRecord
  | DemonstrationRecord
  | BinaryRecord
  | RankedRecord
)


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A row, or a part of one, that was left out.

  Attributes:
    where: "file:line", or "file:line#part" for a part.
    reason: a key of `REASONS`, or of `PARTS`.
    problem: what was wrong with it, in a sentence.
  """

  where: str
  reason: str
  problem: str = ""

  @property
  def line(self) -> int:
    """The 1-based line number."""
    return line_of(self.where)


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of the rows of a file.

  Attributes:
    path: the file.
    read: rows read; blank lines are not rows.
    used: rows that became records; `read == used + len(skipped)`.
    skipped: the others, in the order of the file.
    ignored: (field, rows that have it) for every field that was not read; all
      rows in containers of columns, where what isn't read isn't looked at.
    noun: what a row is: "pairs", "prompts", "lists" ...
    left_out: parts of used rows that were not used.
    records: records made, where a row may become several; None for one each.
  """

  path: str
  read: int
  used: int
  skipped: tuple[Skipped, ...] = ()
  ignored: tuple[tuple[str, int], ...] = ()
  noun: str = "pairs"
  left_out: tuple[Skipped, ...] = ()
  records: int | None = None

  def lines(self) -> dict[str, list[int]]:
    """Skipped line numbers by reason, in the order of `REASONS`."""
    return _by_reason(self.skipped, REASONS)

  def parts(self) -> dict[str, list[int]]:
    """Line numbers of `left_out` by reason, one for each part."""
    return _by_reason(self.left_out, PARTS)

  def summary(self) -> str:
    """One line: rows read, used and skipped, why and where."""
    text = f"read {self.read} {self.noun}, used {self.used}"
    if self.records is not None:
      text += f" ({self.records} records)"
    if self.skipped:
      parts = [
        f"{len(numbers)} {REASONS[reason]} ({name_lines(numbers)})"
        for reason, numbers in self.lines().items()
      ]
      text += f", skipped {len(self.skipped)}: {', '.join(parts)}"
    if self.left_out:
      parts = [
        f"{len(numbers)} {PARTS[reason]} ({name_lines(numbers)})"
        for reason, numbers in self.parts().items()
      ]
      text += f"; left out {', '.join(parts)}"
    if self.ignored:
      fields = ", ".join(
        f"{quoted(name)} in {n} rows" for name, n in self.ignored[:_LISTED]
      )
      if len(self.ignored) > _LISTED:
        fields += f" and {len(self.ignored) - _LISTED} more"
      text += f"; fields not read: {fields}"
    return text

  def to_dict(self) -> dict[str, Any]:
    """The same as plain values for a JSON file, with every line listed."""
    return {
      "path": self.path,
      "noun": self.noun,
      "read": self.read,
      "used": self.used,
      "records": self.used if self.records is None else self.records,
      "skipped": self.lines(),
      "left_out": self.parts(),
      "ignored": dict(self.ignored),
    }


def line_of(where: str) -> int:
  """The line number of a place, "file:line" or "file:line#part"."""
  match = re.search(r":(\d+)(#.*)?$", where)
  return int(match[1]) if match else 0


def place_of(source: str) -> str:
  """The row that a record was made of: "file:line" of "file:line#part"."""
  return re.sub(r"(:\d+)#[^:]*$", r"\1", source)


def _by_reason(
  left_out: Iterable[Skipped], reasons: Iterable[str]
) -> dict[str, list[int]]:
  """Line numbers by reason, in the order of `reasons`."""
  lines: dict[str, list[int]] = {reason: [] for reason in reasons}
  for skipped in left_out:
    lines[skipped.reason].append(skipped.line)
  return {reason: numbers for reason, numbers in lines.items() if numbers}


def name_lines(numbers: Sequence[int]) -> str:
  """ "lines 87, 517" or "lines 1, 2, ... and 40 more"."""
  different = list(dict.fromkeys(numbers))
  text = ", ".join(str(number) for number in different[:_LISTED])
  if len(different) > _LISTED:
    text += f" and {len(different) - _LISTED} more"
  return f"line{'s' if len(different) > 1 else ''} {text}"
