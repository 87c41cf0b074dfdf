"""The functions of a config, called once before anything is trained."""

from typing import Any

from jalign import data
from jalign.experiment.answers import written_answers
from jalign.experiment.config.plugins import Plugins
from jalign.experiment.config.settings import Settings
from jalign.experiment.data.dataset import Dataset
from jalign.feedback import assess, compare

_TRIED = 2  # prompts


def try_out(
  plugins: Plugins,
  settings: Settings,
  dataset: Dataset,
  tokenizer: data.Tokenizer,
) -> str:
  """Calls annotator and measures once, before anything is trained.

  They see held-out prompts with responses of the data, and an empty one: that
  is what a policy may sample, too. A judge sees the prompts' rows and, if it
  reads tokens, the responses as if they had been sampled.

  Args:
    plugins: of the run.
    settings: of the run.
    dataset: what is judged.
    tokenizer: of the run.

  Returns:
    A line on what was called, "" where nothing was.

  Raises:
    UserError: one of them fails.
  """
  named = settings.annotator
  called = (named.function, named.cost, named.measures)
  names = [name for name in called if name]
  prompts = dataset.sample_prompts(_TRIED)
  if not names or not prompts:
    return ""
  texts = [
    tokenizer.decode(ids)
    for record in dataset.held_out[: 2 * _TRIED]
    for ids in _responses(record)
  ]
  texts = (texts + [""] * 2 * _TRIED)[: 2 * len(prompts) - 1]
  a, b = texts[: len(prompts)], [*texts[len(prompts) :], ""]
  if plugins.annotator is not None:
    judge = plugins.annotator
    sides = [
      written_answers(prompts, texts, dataset, tokenizer, judge)
      for texts in (a, b)
    ]
    compare(judge, *(assess(judge, side) for side in sides))
  for texts in (a, b):
    plugins.measures([prompt.text for prompt in prompts], texts)
  return f"[annotator] {' and '.join(names)}: tried on {len(prompts)} prompts"


def _responses(record: Any) -> list[Any]:
  """Token ids of the responses of an encoded record."""
  if hasattr(record, "mask"):
    return [record.ids[record.mask]]
  if hasattr(record, "responses"):
    return list(record.responses)
  names = ("chosen", "rejected", "response")
  return [getattr(record, name) for name in names if hasattr(record, name)]
