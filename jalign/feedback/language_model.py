"""Language models as judges: verdicts on pairs, and ratings of responses.

A pair is always shown in both orders, and the answers are averaged, since
language models prefer a place. An answer that can't be read is counted and
dropped: a pair has a preference only if both orders have an answer.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.completions import (
  Completion,
  LanguageModel,
  Question,
  ask,
)
from jalign.feedback.counts import Tally, merged
from jalign.feedback.evidence import mean_scores
from jalign.feedback.judge import Judge, checked_scale
from jalign.feedback.parsing import Reader
from jalign.feedback.prompts import JudgePrompt


class Evidence(NamedTuple):
  """What a language model has said about N pairs, k times in each order.

  Attributes:
    preference: [N, 2, k] P(a is preferred): 1, 1/2 or 0 for a verdict, NaN for
      an answer that can't be read. Order 0 shows a first, order 1 shows b
      first; the values of both are about a.
    scores: [N, 2, k, 2] scores of a and of b, NaN likewise; None where the
      answers aren't scores.
  """

  preference: np.ndarray
  scores: np.ndarray | None = None


def from_language_model(
  model: LanguageModel,
  prompt: JudgePrompt,
  reader: Reader,
  *,
  samples: int = 1,
  soft: bool = False,
  scale: float = 1.0,
) -> Judge:
  """Makes a judge of a language model.

  A prompt that shows two responses gives a judge of preferences: the mean over
  both orders of the mean over the samples of each order. Where the answers are
  scores, they are averaged so, and the higher mean is preferred (equal means
  are a tie): Wang et al. 2023, "Large Language Models are not Fair Evaluators",
  arXiv:2305.17926, with k samples as multiple evidence and both orders as the
  balanced position. Two responses of the same text are a tie by symmetry, about
  which the model isn't asked.

  A prompt that shows one response gives a judge of rewards: the mean rating of
  the samples that can be read.

  Args:
    model: answers the questions.
    prompt: the prompt.
    reader: reads the answers.
    samples: k, number of answers in each order; more than one has a use only
      with a temperature above 0.
    soft: whether the probabilities of the verdict's labels take the place of
      the verdict: p(A) / (p(A) + p(B)), or (p(A) + p(C)/2) / (p(A) + p(B) +
      p(C)) where a label stands for a tie.
    scale: inverse temperature of the preferences that follow from ratings.

  Returns:
    A judge with `answers_all=False`; its counts are those of the model and
    "pairs", "pairs without an answer", "pairs whose orders disagree", "ties"
    and "answers not read", and likewise for responses.

  Raises:
    UserError: the prompt shows something else than the reader reads, or an
      option is out of range.
  """
  _check(prompt, reader, samples, soft)
  tally = Tally()

  def reward(answers: Answers) -> np.ndarray:
    ratings = rate(model, prompt, reader, answers, samples=samples)
    means = _means(ratings)
    tally.add(
      {
        "responses": len(means),
        "responses without an answer": int(np.isnan(means).sum()),
        "answers not read": int(np.isnan(ratings).sum()),
      }
    )
    return means

  def preference(a: Answers, b: Answers) -> np.ndarray:
    same = np.array(
      [x == y for x, y in zip(a.texts, b.texts, strict=True)], bool
    )
    asked = np.flatnonzero(~same)
    evidence = ask_pairs(
      model,
      prompt,
      reader,
      a.take(asked),
      b.take(asked),
      samples=samples,
      soft=soft,
    )
    values = averaged(evidence)
    tally.add({"pairs": len(same), "pairs of equal texts": int(same.sum())})
    tally.add(_described(evidence, values))
    whole = np.full(len(same), 0.5)
    whole[asked] = values
    return whole

  return Judge(
    reward=None if reader.pairs else reward,
    preference=preference if reader.pairs else None,
    scale=checked_scale(scale),
    reads_tokens=model.together,  # so that all processes ask together
    answers_all=False,
    counts=lambda: merged(tally.counts(), model.tally.counts()),
  )


def ask_pairs(
  model: LanguageModel,
  prompt: JudgePrompt,
  reader: Reader,
  a: Answers,
  b: Answers,
  *,
  samples: int = 1,
  soft: bool = False,
) -> Evidence:
  """Shows N pairs to a language model in both orders, k times in each.

  Args:
    model: answers the questions.
    prompt: shows two responses.
    reader: reads the answers.
    a: N answers.
    b: N answers to the same prompts.
    samples: k, number of answers in each order.
    soft: whether to read the probabilities of the verdict's labels.

  Raises:
    UserError: the model fails, a column that the prompt shows is missing, or
      the model gives no log-probs where they are to be read.
  """
  questions = [
    Question(messages, k)
    for one, two in zip(_values_of(a), _values_of(b), strict=True)
    for messages in (
      prompt.write(one | {"a": one["response"], "b": two["response"]}),
      prompt.write(one | {"a": two["response"], "b": one["response"]}),
    )
    for k in range(samples)
  ]
  answers = ask(model, questions)
  shape = (len(a.texts), 2, samples)
  if reader.scores:
    given = [_read(reader, answer) for answer in answers]
    pairs = [(math.nan, math.nan) if x is None else x for x in given]
    scores = np.array(pairs, np.float64).reshape(*shape, 2)
    scores[:, 1] = scores[:, 1, :, ::-1]
    difference = scores[..., 0] - scores[..., 1]
    return Evidence((np.sign(difference) + 1) / 2, scores)
  read = _softly if soft else _read
  told = [read(reader, answer) for answer in answers]
  values = np.array([math.nan if x is None else x for x in told], np.float64)
  values = values.reshape(shape)
  values[:, 1] = 1 - values[:, 1]
  return Evidence(values)


def averaged(evidence: Evidence) -> np.ndarray:
  """[N] P(a is preferred), the mean of both orders; NaN without an answer.

  Where there are scores, the verdict (1, 1/2 or 0) of their means over both
  orders. A pair has an answer if both orders have at least one.

  Args:
    evidence: of N pairs.
  """
  if evidence.scores is None:
    return _means(evidence.preference).mean(1)
  a, b = mean_scores(evidence.scores[:, 0], evidence.scores[:, 1]).T
  # Means of equal sums may differ in their last bits.
  return (np.sign(np.round(a - b, 9)) + 1) / 2


def rate(
  model: LanguageModel,
  prompt: JudgePrompt,
  reader: Reader,
  answers: Answers,
  *,
  samples: int = 1,
) -> np.ndarray:
  """[N, k] ratings of N responses; NaN for an answer that can't be read.

  Args:
    model: answers the questions.
    prompt: shows one response.
    reader: reads the answers.
    answers: N answers.
    samples: k, number of ratings of each response.

  Raises:
    UserError: the model fails, or a column that the prompt shows is missing.
  """
  questions = [
    Question(prompt.write(values), k)
    for values in _values_of(answers)
    for k in range(samples)
  ]
  told = [_read(reader, answer) for answer in ask(model, questions)]
  ratings = [math.nan if x is None else x for x in told]
  return np.array(ratings, np.float64).reshape(len(answers.texts), samples)


def _values_of(answers: Answers) -> list[dict[str, str]]:
  """The texts that fill a prompt's fields, of each answer."""
  return [
    {name: str(value) for name, value in row.items() if value is not None}
    | {"prompt": prompt, "response": text}
    for prompt, text, row in zip(*answers[:3], strict=True)
  ]


def _read(reader: Reader, completion: Completion):
  return reader.read(completion.text)


def _softly(reader: Reader, completion: Completion) -> float | None:
  """sum_l value(l) p(l) / sum_l p(l) over the labels.

  None without probabilities of labels, or where the text can't be read.
  """
  if reader.read(completion.text) is None:
    return None
  logps = completion.label_logps
  if logps is None:
    raise UserError(
      "the language model gives no log-probs of its verdict.",
      where="soft",
      remedy="Leave soft out, or take a model that gives log-probs.",
    )
  known = {
    x: logps[x] for x in reader.labels if logps.get(x, -math.inf) > -1e30
  }
  if not known:
    return None
  most = max(known.values())
  weights = {label: math.exp(logp - most) for label, logp in known.items()}
  total = sum(weights.values())
  return sum(reader.labels[x] * w for x, w in weights.items()) / total


def _means(values: np.ndarray) -> np.ndarray:
  """Means over the last axis of what isn't NaN; NaN where all is."""
  there = ~np.isnan(values)
  count = there.sum(-1)
  sums = np.where(there, values, 0).sum(-1)
  return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def _described(evidence: Evidence, values: np.ndarray) -> Mapping[str, float]:
  """Counts of pairs and of answers."""
  # The winner of each order: 1, 0 or -1.
  winners = np.sign(np.round(_means(evidence.preference) - 0.5, 9))
  if evidence.scores is not None:
    a, b = (_means(evidence.scores[..., i]) for i in (0, 1))
    winners = np.sign(np.round(a - b, 9))
  answered = ~np.isnan(values)
  disagree = answered & (winners[:, 0] != winners[:, 1])
  return {
    "pairs without an answer": int((~answered).sum()),
    "pairs whose orders disagree": int(disagree.sum()),
    "ties": int((values == 0.5).sum()),
    "answers not read": int(np.isnan(evidence.preference).sum()),
  }


def _check(
  prompt: JudgePrompt, reader: Reader, samples: int, soft: bool
) -> None:
  if prompt.pairs != reader.pairs:
    shown, read = (
      "two responses" if pairs else "one response"
      for pairs in (prompt.pairs, reader.pairs)
    )
    raise UserError(
      f"the prompt {prompt.name!r} shows {shown}, but what reads the answers"
      f" reads verdicts on {read}.",
      where="prompt",
      remedy="Choose a prompt and a parser of the same kind.",
    )
  if samples < 1:
    raise UserError(f"{samples} is below 1.", where="samples")
  if soft and not reader.labels:
    raise UserError(
      "the answers have no labels whose probabilities could be read.",
      where="soft",
      remedy="Leave soft out, or choose a prompt whose verdict is a label.",
    )
