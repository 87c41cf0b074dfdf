"""The records that sources yield, and the report of what was read."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jalign.data.reasons import PARTS, REASONS
from jalign.data.rows import quoted

_LISTED = 10  # lines that a summary names for each reason


@dataclasses.dataclass(frozen=True)
class PreferenceRecord:
  """A prompt with a preferred and a dispreferred response, as text.

  The model's input is `prompt` followed directly by a response, so a space or
  line break between them belongs to one of the two.

  Attributes:
    prompt: not empty.
    chosen: the preferred response, not blank.
    rejected: the other response, not blank.
    source: "file:line", counted from 1; errors and batches name it.
    group: split key; a split keeps records of one group together (see
      `groups.split`).
    preference: P(chosen > rejected) in [0, 1], if the source has it.
    chosen_score: reward of the chosen response, if the source has it.
    rejected_score: reward of the rejected response, if the source has it.
    plain: the prompt as it was before a conversion wrote a goal into `prompt`,
      which annotators, measures and reports see; "" where they see `prompt`.
    end: for texts that a chat template wrote, with all their special tokens,
      the mark that ends a turn, or "" if there is none. None for plain texts,
      which begin and end as the tokenizer begins and ends them.
    rater: name of whoever preferred, if the source has it.
    objective: name of what the preference is about, such as "helpfulness", or
      of the data set that the pair is from.
    preferences: P(chosen > rejected) by the name of an objective, for pairs
      that were compared under several objectives.
    margin: how much better the chosen response is, if the source has it.
    chosen_unsafe: whether the chosen response is unsafe, if the source has it.
    rejected_unsafe: whether the rejected one is.
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
  rater: str | None = None
  objective: str | None = None
  preferences: Mapping[str, float] = dataclasses.field(
    default_factory=dict, hash=False
  )
  margin: float | None = None
  chosen_unsafe: bool | None = None
  rejected_unsafe: bool | None = None


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
  """A prompt with a response to imitate; for the fields see
  `PreferenceRecord`."""

  prompt: str
  response: str
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class ContextRecord:
  """A demonstration beside a context, for context distillation.

  Attributes:
    prompt: what the student reads.
    response: what both score.
    context: what a teacher reads before the prompt; may be "".
    source: for this field and those below see `PreferenceRecord`.
  """

  prompt: str
  response: str
  context: str
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class CritiqueRecord:
  """A pair with a critique of each response, not blank; for the other fields
  see `PreferenceRecord`."""

  prompt: str
  chosen: str
  rejected: str
  chosen_critique: str
  rejected_critique: str
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class ConversationRecord:
  """A conversation whose assistant turns are all to be imitated.

  Attributes:
    messages: the turns, each with a "role" ("system", "user", "assistant" or
      "tool") and a "content" that is text; one or more are the assistant's.
    source: "file:line".
    group: split key: the first user turn.
    variables: what the chat template reads beside the messages: "tools", and
      others.
  """

  messages: tuple[Mapping[str, Any], ...]
  source: str
  group: str
  variables: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BinaryRecord:
  """A prompt with a response that is desirable or not; for the other fields see
  `PreferenceRecord`."""

  prompt: str
  response: str
  desirable: bool
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class RankedRecord:
  """A prompt with two or more responses, each of them with a score.

  Attributes:
    prompt: not empty.
    responses: two or more texts, none blank.
    scores: a finite number per response, higher is better. Equal scores are a
      tie.
    source: "file:line".
    group: split key.
    plain: see `PreferenceRecord`.
    end: see `PreferenceRecord`.
  """

  prompt: str
  responses: tuple[str, ...]
  scores: tuple[float, ...]
  source: str
  group: str
  plain: str = ""
  end: str | None = None


@dataclasses.dataclass(frozen=True)
class RatingRecord:
  """A prompt with a response and its ratings; for the other fields see
  `PreferenceRecord`.

  Attributes:
    ratings: one or more finite numbers by the name of an objective. Objectives
      that the response wasn't rated on are missing.
  """

  prompt: str
  response: str
  ratings: Mapping[str, float] = dataclasses.field(hash=False)
  source: str
  group: str
  plain: str = ""
  end: str | None = None


Prompted = (
  PreferenceRecord
  | PromptRecord
  | DemonstrationRecord
  | ContextRecord
  | CritiqueRecord
  | BinaryRecord
  | RankedRecord
  | RatingRecord
)


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A row, or a part of a row, that was left out.

  Attributes:
    where: "file:line", or "file:line#part" for a part.
    reason: a key of `REASONS`, or of `PARTS`.
    problem: what was wrong with the row, in a sentence.
  """

  where: str
  reason: str
  problem: str = ""

  @property
  def line(self) -> int:
    """The line number, from 1; 0 for a place without one."""
    return line_of(self.where)


@dataclasses.dataclass(frozen=True)
class Report:
  """What happened to the rows of a file.

  Attributes:
    path: the file.
    read: number of rows read; blank lines are not rows.
    used: number of rows that became records; `read == used + len(skipped)`.
    skipped: the rows that became none, in the order of the file.
    ignored: (field, number of rows that have it) for each field that was not
      read. Containers of columns count all rows, since they don't look at
      columns that aren't read.
    noun: what a row is: "pairs", "prompts", "lists" ...
    left_out: parts of used rows that were not used.
    records: number of records, where a row may become several; None where each
      used row became one.
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
    """Line numbers of skipped rows by reason, in the order of `REASONS`."""
    return _by_reason(self.skipped, REASONS)

  def parts(self) -> dict[str, list[int]]:
    """Line numbers of the parts left out, by reason; one number per part."""
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
    """The report as plain values for a JSON file, with every line listed."""
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
  """The line number in "file:line" or "file:line#part"; 0 if there is none."""
  match = re.search(r":(\d+)(#.*)?$", where)
  return int(match[1]) if match else 0


def place_of(source: str) -> str:
  """The place of a record's row: "file:line" for "file:line#part"."""
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
  """Names line numbers: "lines 87, 517", or ten of them "and 40 more"."""
  different = list(dict.fromkeys(numbers))
  text = ", ".join(str(number) for number in different[:_LISTED])
  if len(different) > _LISTED:
    text += f" and {len(different) - _LISTED} more"
  return f"line{'s' if len(different) > 1 else ''} {text}"
