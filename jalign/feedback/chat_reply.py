"""Reads the reply of an endpoint: a chat completion of OpenAI's interface."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jalign.feedback.completions import Completion

_AROUND = " \t\r\n[]().:\"'*"


class Unreadable(Exception):
  """The reply isn't a chat completion; the text says why."""


def completion_of(text: str, labels: Sequence[str] = ()) -> Completion:
  """Reads the first choice of a reply.

  A choice without text (a refusal, or reasoning alone) is an empty completion.

  Args:
    text: the reply's body.
    labels: labels whose log-probs are wanted. They are read at the last token
      that is a label, apart from brackets and white space around it.

  Raises:
    Unreadable: the body is no JSON object with a choice that has a message.
  """
  try:
    body = json.loads(text)
  except (ValueError, RecursionError):
    raise Unreadable("it is no JSON") from None
  choices = body.get("choices") if isinstance(body, dict) else None
  if not isinstance(choices, list):
    raise Unreadable("it has no choices")
  if not choices:
    raise Unreadable("its list of choices is empty")
  choice = choices[0]
  message = choice.get("message") if isinstance(choice, dict) else None
  if not isinstance(message, dict):
    raise Unreadable("its choice has no message")
  content = message.get("content")
  if content is not None and not isinstance(content, str):
    raise Unreadable("its message's content is no text")
  usage = body.get("usage")
  return Completion(
    content or "",
    _count(usage, "prompt_tokens"),
    _count(usage, "completion_tokens"),
    cut=choice.get("finish_reason") == "length",
    label_logps=_label_logps(choice.get("logprobs"), labels)
    if labels
    else None,
  )


def _count(usage: Any, name: str) -> int:
  count = usage.get(name) if isinstance(usage, dict) else None
  return count if isinstance(count, int) and count >= 0 else 0


def _label_logps(
  logprobs: Any, labels: Sequence[str]
) -> Mapping[str, float] | None:
  """Log-probs of labels at the last token that is a label.

  The tokens of a label, such as "A" and " A", are added up. {} where no token
  is a label; None where the endpoint gave no log-probs.
  """
  tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
  if not isinstance(tokens, list):
    return None
  for token in reversed(tokens):
    if not isinstance(token, dict) or _label(token, labels) is None:
      continue
    found: dict[str, list[float]] = {}
    top = token.get("top_logprobs")
    for other in top if isinstance(top, list) and top else [token]:
      label, logp = _label(other, labels), _logp(other)
      if label is not None and logp is not None:
        found.setdefault(label, []).append(logp)
    return {label: _log_sum(logps) for label, logps in found.items()}
  return {}


def _label(token: Any, labels: Sequence[str]) -> str | None:
  text = token.get("token") if isinstance(token, dict) else None
  stripped = text.strip(_AROUND) if isinstance(text, str) else None
  return stripped if stripped in labels else None


def _logp(token: Mapping[str, Any]) -> float | None:
  value = token.get("logprob")
  plain = isinstance(value, int | float) and not math.isnan(value)
  return float(value) if plain else None  # type: ignore[arg-type]


def _log_sum(logps: Sequence[float]) -> float:
  most = max(logps)
  return most + math.log(sum(math.exp(x - most) for x in logps))
