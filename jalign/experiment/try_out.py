"""Calls the functions of a config once, before anything is trained."""

from collections.abc import Sequence
from typing import Any

from jalign import data
from jalign.experiment.answers import written_answers
from jalign.experiment.config.settings import Settings
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.plugins import Plugins
from jalign.feedback import Judge, assess, compare

_TRIED = 2  # number of prompts


def try_out(plugins: Plugins, settings: Settings, prepared: Prepared) -> str:
  """Calls annotator and measures once, before anything is trained.

  Annotator and measures see held-out prompts with responses from the data, and
  with an empty response, since a policy may sample that, too. A judge also sees
  the prompts' rows and, if it reads tokens, the responses as if they had been
  sampled; and it sees prompts of online stages that have data of their own.

  Args:
    plugins: the run's functions.
    settings: the run's settings.
    prepared: the run's data.

  Returns:
    A line on what was called; "" if nothing was.

  Raises:
    UserError: one of the functions fails.
  """
  named = settings.annotator
  called = (named.function, named.cost, named.measures)
  names = [name for name in called if name]
  main, judge = prepared.main, plugins.annotator
  prompts = main.sample_prompts(_TRIED)
  if not names or not prompts:
    return ""
  sampled = [prepared.stages[s.name] for s in settings.stages if s.samples]
  if judge is not None:
    tokenizer = prepared.tokenizer
    _judge_two(judge, main, prompts, main.held_out, tokenizer)
    if plugins.gold is not None:
      _judge_two(plugins.gold, main, prompts, main.held_out, tokenizer)
    for own in dict.fromkeys(sampled):
      if own is not main:
        first = own.train_prompts[:_TRIED]
        _judge_two(judge, own, first, own.train, tokenizer)
  for texts in _sides(main.held_out, len(prompts), prepared.tokenizer):
    plugins.measures([prompt.text for prompt in prompts], texts)
  return f"[annotator] {' and '.join(names)}: tried on {len(prompts)} prompts"


def _judge_two(
  judge: Judge,
  dataset: Dataset,
  prompts: Sequence[data.EncodedPrompt],
  records: Sequence[Any],
  tokenizer: data.Tokenizer,
) -> None:
  """Has two responses to each prompt judged, taken from some records."""
  sides = [
    written_answers(prompts, texts, dataset, tokenizer, judge)
    for texts in _sides(records, len(prompts), tokenizer)
  ]
  compare(judge, *(assess(judge, side) for side in sides))


def _sides(
  records: Sequence[Any], count: int, tokenizer: data.Tokenizer
) -> tuple[list[str], list[str]]:
  """Two lists of `count` responses of some records; the last one is empty."""
  texts = [
    tokenizer.decode(ids)
    for record in records[: 2 * _TRIED]
    for ids in _responses(record)
  ]
  texts = (texts + [""] * 2 * _TRIED)[: 2 * count - 1]
  return texts[:count], [*texts[count:], ""]


def _responses(record: Any) -> list[Any]:
  """Token ids of the responses of an encoded record."""
  if hasattr(record, "mask"):
    return [record.ids[record.mask]]
  if hasattr(record, "responses"):
    return list(record.responses)
  names = ("chosen", "rejected", "response")
  return [getattr(record, name) for name in names if hasattr(record, name)]
