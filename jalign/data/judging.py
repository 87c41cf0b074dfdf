"""Demonstrations that train language models to judge: verdicts and rewrites."""

import hashlib
from collections.abc import Iterable, Sequence

from jalign.data.schema import DemonstrationRecord, PreferenceRecord
from jalign.errors import UserError

PAIR_FORM = "{prompt}\n\nResponse A: {a}\n\nResponse B: {b}\n\nVerdict:"
VERDICTS = (" A", " B")
REWRITE_FORM = "{prompt}\n\nResponse: {a}\n\nBetter:"


def verdicts(
  records: Iterable[PreferenceRecord], traces: Sequence[str] | None = None
) -> list[DemonstrationRecord]:
  """Pairs as demonstrations of a generative reward model.

  The prompt shows the two responses as A and B, and the response is the verdict
  " A" or " B". Which of them is A follows from a hash of the texts, so that
  neither the order of the records nor a seed decides it. A judge of kind
  "generative" asks such a model.

  Chen et al. 2025, "RM-R1: Reward Modeling as Reasoning", arXiv:2505.02387: the
  first of two stages, supervised learning of verified traces. The form of the
  text is ours, and the second stage, which is RL, isn't part of this.

  Args:
    records: the pairs.
    traces: for each pair the text before the verdict, such as rubrics or a
      critique; None for none. A judge of kind "language_model" with a prompt
      and a reader of one's own asks models that write traces.

  Raises:
    UserError: a chat template wrote the texts.
  """
  records, made = list(records), []
  for record, trace in zip(records, traces or [""] * len(records), strict=True):
    sides, best = (record.chosen, record.rejected), VERDICTS[0]
    if _swapped(record):
      sides, best = sides[::-1], VERDICTS[1]
    text = _written(PAIR_FORM, record, *sides)
    if trace:
      text = text.removesuffix("Verdict:")
      best = f"{trace} Verdict:{best}"
    made.append(_demonstration(record, text, best))
  return made


def verdict_prompt(prompt: str, a: str, b: str) -> str:
  """What a generative reward model reads before its verdict."""
  return PAIR_FORM.format(prompt=prompt, a=a, b=b)


def rewrites(
  records: Iterable[PreferenceRecord],
) -> list[DemonstrationRecord]:
  """Pairs as demonstrations of a seq2seq reward model, two for each pair.

  From prompt and rejected response the model is to write the chosen response
  (correction), and from prompt and chosen response the chosen response again
  (identity). `jalign.feedback.seq2seq` scores responses by such a model.

  Zhou et al. 2024, "Sequence to Sequence Reward Modeling: Improving RLHF by
  Language Feedback", arXiv:2409.00162. The form of the text is ours.

  Raises:
    UserError: a chat template wrote the texts.
  """
  return [
    _demonstration(
      record,
      _written(REWRITE_FORM, record, response),
      record.chosen,
      f"#{side}",
    )
    for record in records
    for side, response in (
      ("rejected", record.rejected),
      ("chosen", record.chosen),
    )
  ]


def rewrite_prompt(prompt: str, response: str) -> str:
  """What a seq2seq reward model reads before it writes a better response."""
  return REWRITE_FORM.format(prompt=prompt, a=response)


def _swapped(record: PreferenceRecord) -> bool:
  texts = "\0".join((record.prompt, record.chosen, record.rejected))
  digest = hashlib.sha256(texts.encode(errors="surrogatepass")).digest()
  return bool(digest[0] & 1)


def _written(form: str, record: PreferenceRecord, *responses: str) -> str:
  if record.end is not None:
    raise UserError(
      "a chat template wrote the texts, and a judge's prompt can't be made of"
      " the template's own words.",
      where=record.source,
      remedy="Read the data without data.template.",
    )
  return form.format(
    prompt=record.plain or record.prompt, **dict(zip("ab", responses))
  )


def _demonstration(
  record: PreferenceRecord, prompt: str, response: str, part: str = ""
) -> DemonstrationRecord:
  return DemonstrationRecord(
    prompt, response, f"{record.source}{part}", record.group
  )
