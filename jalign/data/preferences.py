"""Reads rows that prefer one response to another, and rows of prompts."""

from typing import Any, TypeGuard

from jalign.data.chat import ChatTemplate
from jalign.data.conversations import (
  Messages,
  check_same_prompt,
  end_of,
  exchange,
  group_of_turns,
  messages_of,
  one_prompt,
  opening,
  shared_prompt,
  turns,
)
from jalign.data.pair_labels import PAIR_LABELS, labels_of_pair
from jalign.data.reading import (
  Columns,
  Path,
  Template,
  as_template,
  read_rows,
  to_record,
  told,
)
from jalign.data.rows import (
  ASSISTANT,
  HUMAN,
  SKIP,
  BadRow,
  check_two,
  empty_prompt,
  first_of,
  group_of,
  number,
  quoted,
  require,
  text,
)
from jalign.data.schema import PreferenceRecord, PromptRecord, Report

PAIR_FIELDS = (
  "prompt",
  "chosen",
  "rejected",
  "preference",
  "chosen_score",
  "rejected_score",
  "score_chosen",
  "score_rejected",
  *PAIR_LABELS,
)
SHP_FIELDS = (
  "history",
  "human_ref_A",
  "human_ref_B",
  "labels",
  "score_A",
  "score_B",
  "post_id",
)


def read_pairs(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[PreferenceRecord], Report]:
  """Reads pairs of a "chosen" and a "rejected" response with their prompt.

  Each is a text or a list of messages. Either a "prompt" stands beside the
  responses; or "chosen" and "rejected" are whole conversations, and the prompt
  is all but their last turn, which must be the assistant's. Conversations that
  differ earlier are bad rows. Optional numbers are "preference" (P(chosen >
  rejected), in [0, 1]), "chosen_score" and "rejected_score" (or "score_chosen"
  and "score_rejected", as in binarized UltraFeedback). The split key is the
  prompt, or its first user turn.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(pair_record, chat),
    (*PAIR_FIELDS, *told(chat)),
    "pairs",
    data_dir,
    columns,
  )


def read_jsonl(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[PreferenceRecord], Report]:
  """`read_pairs` under its older name, which configs use."""
  return read_pairs(
    path, on_error, template=template, data_dir=data_dir, columns=columns
  )


def read_hh(
  path: Path,
  on_error: str = "skip",
  *,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[PreferenceRecord], Report]:
  r"""Reads pairs of Anthropic HH transcripts; skips bad rows by default.

  A row's strings "chosen" and "rejected" are whole transcripts,
  "\n\nHuman: ...\n\nAssistant: ..." and so on. The prompt is what both share,
  up to and including the last "\n\nAssistant:"; the responses are what follows
  the prompt, with their leading space. Two turns of one role in a row are fine.
  Transcripts that differ before the last assistant turn are bad rows. The split
  key is the first human turn.

  Args, Returns, Raises: as at the top of `reading`.
  """
  return read_rows(
    path,
    on_error,
    lambda row, where, note: [transcript_record(row, where)],
    ("chosen", "rejected"),
    "pairs",
    data_dir,
    columns,
  )


def read_shp(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[PreferenceRecord], Report]:
  """Reads pairs of Stanford Human Preferences.

  "history" is the prompt, "human_ref_A" and "human_ref_B" are the responses.
  "labels" is 1 where A is preferred and 0 where B is. "score_A" and "score_B"
  are the responses' scores. The split key is "post_id" or, if a row has none,
  the history.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(shp_record, chat),
    (*SHP_FIELDS, *told(chat)),
    "pairs",
    data_dir,
    columns,
  )


def read_prompts(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[PromptRecord], Report]:
  """Reads the "prompt" of every row, text or messages.

  Files of pairs serve, too: the report counts their other fields as not read.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(prompt_record, chat),
    ("prompt", *told(chat)),
    "prompts",
    data_dir,
    columns,
  )


def prompt_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> PromptRecord:
  """The record of a row with a prompt; raises BadRow for a malformed row."""
  prompt = turns(require(row, "prompt"), "prompt", "user")
  return PromptRecord(
    opening(prompt, template, where),
    where,
    group_of_turns(prompt),
    end=end_of(template),
  )


def pair_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None = None
) -> PreferenceRecord:
  """The record of a row with two responses, and a prompt beside or in them.

  Raises:
    BadRow: the row is malformed, or its template refuses it.
  """
  prompt: str | Messages
  good: str | Messages
  bad: str | Messages
  good, bad = (_side(row, name) for name in ("chosen", "rejected"))
  if _whole(good) and _whole(bad):
    prompt, good, bad = shared_prompt(good, bad)
    if row.get("prompt") is not None:
      check_same_prompt(row["prompt"], prompt)
  else:
    prompt = turns(require(row, "prompt"), "prompt", "user")
    good = turns(good, "chosen", "assistant")
    bad = turns(bad, "rejected", "assistant")
  written, (chosen, rejected) = one_prompt(
    (
      exchange(prompt, good, template, where, "chosen"),
      exchange(prompt, bad, template, where, "rejected"),
    )
  )
  check_two(chosen, rejected)
  return PreferenceRecord(
    prompt=written,
    chosen=chosen,
    rejected=rejected,
    source=where,
    group=group_of_turns(prompt),
    **labels_of_pair(row),
    preference=number(row, "preference"),
    chosen_score=number(row, first_of(row, "chosen_score", "score_chosen")),
    rejected_score=number(
      row, first_of(row, "rejected_score", "score_rejected")
    ),
    end=end_of(template),
  )


def _side(row: dict[str, Any], field: str) -> str | Messages:
  value = require(row, field)
  if isinstance(value, str):
    return value
  return messages_of(value, field, "a string or ")


def _whole(side: str | Messages) -> TypeGuard[Messages]:
  """Whether a side holds turns before its response."""
  return not isinstance(side, str) and any(
    message["role"] != "assistant" for message in side
  )


def transcript_record(row: dict[str, Any], where: str) -> PreferenceRecord:
  """The record of a row with two HH transcripts; raises BadRow."""
  prompt, chosen = _last_turn(row, "chosen")
  other, rejected = _last_turn(row, "rejected")
  if prompt != other:
    raise BadRow(
      "diverging",
      "the two transcripts part before the last assistant turn.",
      f"Both must share everything but the last assistant turn. {SKIP}",
    )
  check_two(chosen, rejected)
  return PreferenceRecord(prompt, chosen, rejected, where, group_of(prompt))


def shp_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> PreferenceRecord:
  """The record of a row of Stanford Human Preferences; raises BadRow."""
  prompt = text(row, "history")
  label = require(row, "labels")
  if isinstance(label, bool) or label not in (0, 1):
    raise BadRow(
      "label",
      f"field 'labels' is {quoted(label)}.",
      f"Write 1 where A is preferred and 0 where B is. {SKIP}",
    )
  best, worst = ("A", "B") if label else ("B", "A")
  best_text, worst_text = (text(row, f"human_ref_{x}") for x in (best, worst))
  written, (chosen, rejected) = one_prompt(
    (
      exchange(prompt, best_text, template, where, "chosen"),
      exchange(prompt, worst_text, template, where, "rejected"),
    )
  )
  check_two(chosen, rejected)
  post = row.get("post_id")
  return PreferenceRecord(
    prompt=written,
    chosen=chosen,
    rejected=rejected,
    source=where,
    group=post if isinstance(post, str) and post else prompt.strip(),
    chosen_score=number(row, f"score_{best}"),
    rejected_score=number(row, f"score_{worst}"),
    end=end_of(template),
  )


def _last_turn(row: dict[str, Any], field: str) -> tuple[str, str]:
  r"""(text up to and including the last "\n\nAssistant:", the response)."""
  head, mark, response = text(row, field).rpartition(ASSISTANT)
  if not mark or HUMAN in response or not head.startswith(HUMAN):
    raise BadRow(
      "transcript",
      f"field {field!r} is not a transcript that begins with a human turn and "
      "ends with an assistant turn.",
      r'Write "\n\nHuman: ...\n\nAssistant: ...", or use the source "pairs". '
      f"{SKIP}",
    )
  if not head.removeprefix(HUMAN).strip():
    raise empty_prompt()
  return head + mark, response
