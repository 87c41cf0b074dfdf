"""Language models as functions from questions to completions."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError, said
from jalign.feedback.counts import Tally
from jalign.feedback.values import describe

Messages = tuple[tuple[str, str], ...]  # (role, text) of each


class Question(NamedTuple):
  """A conversation that a language model is to continue.

  Attributes:
    messages: (role, text) of each message.
    sample: number of the completion, where several are drawn; from 0.
  """

  messages: Messages
  sample: int = 0

  @property
  def text(self) -> str:
    """The messages' texts, with an empty line between them."""
    return "\n\n".join(text for _, text in self.messages)

  @property
  def chat(self) -> list[dict[str, str]]:
    """The messages as chat templates and endpoints take them."""
    return [{"role": role, "content": text} for role, text in self.messages]


class Completion(NamedTuple):
  """A language model's answer to a question.

  Attributes:
    text: what the model wrote; "" where it wrote nothing.
    prompt_tokens: number of tokens read; 0 where it isn't known.
    tokens: number of tokens written; 0 where it isn't known.
    cut: whether the limit of tokens cut the text.
    label_logps: log-probs (nats) of the verdict's labels at the place of the
      verdict; None where the model doesn't give them.
  """

  text: str
  prompt_tokens: int = 0
  tokens: int = 0
  cut: bool = False
  label_logps: Mapping[str, float] | None = None


Complete = Callable[[Sequence[Question]], Iterable[tuple[int, Completion]]]


class LanguageModel(NamedTuple):
  """A language model that answers questions.

  Attributes:
    complete: `questions -> (index of a question, its completion)` for all
      questions, in any order, each as soon as it is known.
    identity: what decides the completions, in values that JSON takes: the
      model, its settings. Never a secret.
    tally: counts calls and tokens.
    together: whether all processes must ask together, as on a shared mesh.
  """

  complete: Complete
  identity: Mapping[str, Any]
  tally: Tally
  together: bool = False


def from_function(
  function: Callable[[list[str]], Sequence[str]],
  name: str = "",
  *,
  chat: bool = False,
) -> LanguageModel:
  """Makes a language model of a plain function of many texts.

  Args:
    function: `texts -> texts`, a completion of each; or `chats -> texts`.
    name: the model's name in caches; by default the function's own.
    chat: whether the function takes lists of {"role", "content"} in place of
      texts.
  """
  name = name or getattr(function, "__qualname__", type(function).__name__)
  tally = Tally()

  def complete(
    questions: Sequence[Question],
  ) -> Iterable[tuple[int, Completion]]:
    given: list[Any] = [q.chat if chat else q.text for q in questions]
    try:
      texts = function(given)
    except UserError:
      raise
    except Exception as error:
      raise UserError(f"raised {said(error)}.", where=name) from error
    if not isinstance(texts, list | tuple) or len(texts) != len(questions):
      raise UserError(
        f"gave {describe(texts)} for {len(questions)} questions.",
        where=name,
        remedy="Return a list with a text for each.",
      )
    for text in texts:
      if not isinstance(text, str):
        raise UserError(f"gave {describe(text)}, not a text.", where=name)
    tally.add({"calls": len(questions)})
    return enumerate(Completion(text) for text in texts)

  return LanguageModel(complete, {"function": name}, tally)


def ask(
  model: LanguageModel, questions: Sequence[Question]
) -> list[Completion]:
  """Asks a language model; equal questions are asked once.

  Args:
    model: the model.
    questions: N questions.

  Returns:
    N completions.

  Raises:
    UserError: the model fails, or leaves a question out.
  """
  distinct = list(dict.fromkeys(questions))
  answers: dict[Question, Completion] = {}
  if distinct:
    for index, completion in model.complete(distinct):
      answers[distinct[index]] = completion
  left = sum(question not in answers for question in distinct)
  if left:
    raise UserError(
      f"left {left} of {len(distinct)} questions out.",
      where=str(model.identity.get("model", "the language model")),
    )
  cut = sum(answers[question].cut for question in distinct)
  model.tally.add({"completions cut": cut})
  return [answers[question] for question in questions]


def key_of(identity: Mapping[str, Any], question: Question) -> str:
  """A hash of all that decides a completion.

  Args:
    identity: of the language model.
    question: the question.
  """
  content = json.dumps(
    [dict(identity), question.messages, question.sample], sort_keys=True
  )
  return hashlib.sha256(content.encode()).hexdigest()
