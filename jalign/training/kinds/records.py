"""Kinds of records, as files hold them, and how each becomes token ids."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign import data

# (records, tokenizer, limits, template) -> (encoded records, what was cut).
Encode = Callable[..., tuple[list[Any], data.Truncation]]


class Records(NamedTuple):
  """A kind of records.

  Attributes:
    kind: name of the kind, as in `Kind.records`.
    encode: `(records, tokenizer, limits, template) -> (encoded, Truncation)`;
      None for records that hold only prompts, and nothing to train on.
    templated: whether the records are conversations, which need a template.
  """

  kind: str
  encode: Encode | None
  templated: bool = False


def _by(encode: Callable[..., Any]) -> Encode:
  """Drops the template from the arguments: texts are written already."""

  def function(records, tokenizer, limits, template):
    del template
    return encode(records, tokenizer, limits)

  return function


def _conversations(records, tokenizer, limits, template):
  return data.encode_conversations(records, tokenizer, template, limits)


RECORDS: Mapping[type, Records] = {
  data.PreferenceRecord: Records("pairs", _by(data.encode_pairs)),
  data.RankedRecord: Records("lists", _by(data.encode_lists)),
  data.BinaryRecord: Records("unpaired", _by(data.encode_binary)),
  data.RatingRecord: Records("ratings", _by(data.encode_ratings)),
  data.DemonstrationRecord: Records(
    "sequences", _by(data.encode_demonstrations)
  ),
  data.CritiqueRecord: Records("critiques", _by(data.encode_critiques)),
  data.ContextRecord: Records("contexts", _by(data.encode_contexts)),
  data.ConversationRecord: Records("sequences", _conversations, templated=True),
  data.PromptRecord: Records("prompts", None),
}
