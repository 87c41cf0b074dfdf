"""Makes `Answers`, as a run's judge sees responses to the run's prompts."""

from collections.abc import Sequence

import numpy as np

from jalign import data
from jalign.data.limits import response_ids
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.sampling import SampledTexts
from jalign.feedback import Answers, Judge, make_answers
from jalign.types import Sequences


def sampled_answers(samples: SampledTexts, dataset: Dataset) -> Answers:
  """Samples with their rows of data, and their tokens if these were kept."""
  rows = dataset.judge_rows(samples.sources)
  return make_answers(samples.prompts, samples.texts, rows, samples.sequences)


def written_answers(
  prompts: Sequence[data.EncodedPrompt],
  texts: Sequence[str],
  dataset: Dataset,
  tokenizer: data.Tokenizer,
  judge: Judge,
) -> Answers:
  """Responses that were written rather than sampled, in the form of samples.

  Args:
    prompts: the prompt of each text.
    texts: the responses.
    dataset: the data that the prompts are from.
    tokenizer: the run's tokenizer.
    judge: sees the responses; tokens are made if it reads them.
  """
  return make_answers(
    [prompt.text for prompt in prompts],
    texts,
    dataset.judge_rows(prompt.source for prompt in prompts),
    _sequences(prompts, texts, tokenizer) if judge.reads_tokens else None,
  )


def _sequences(
  prompts: Sequence[data.EncodedPrompt],
  texts: Sequence[str],
  tokenizer: data.Tokenizer,
) -> Sequences:
  """Prompts and responses, with the responses' ends, as rows of tokens."""
  encoded = []
  for prompt, text in zip(prompts, texts, strict=True):
    response, _ = response_ids(prompt.written, text, tokenizer)
    ids = np.concatenate([prompt.ids, np.array(response, np.int32)])
    mask = np.arange(len(ids)) >= len(prompt.ids)
    encoded.append(data.EncodedSequence(ids, mask, prompt.source))
  width = max(map(data.sequence_length, encoded))
  batch = data.collate_sequences(
    encoded, len(encoded), width, pad_id=tokenizer.pad_id
  )
  return batch.sequences
