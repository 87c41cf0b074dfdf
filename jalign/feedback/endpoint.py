"""Language models behind an HTTP endpoint with OpenAI's chat interface.

The interface is that of `POST /v1/chat/completions`, which OpenAI, vLLM,
SGLang, llama.cpp and others serve. Requests are sent by several threads, are
repeated where that may help, and give up after a time. The key of the endpoint
is read from an environment variable: it stands in no config, cache or error.
"""

import datetime
import email.utils
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from jalign.errors import UserError, said
from jalign.feedback.chat_reply import Unreadable, completion_of
from jalign.feedback.completions import Completion, LanguageModel, Question
from jalign.feedback.counts import Tally
from jalign.feedback.threads import in_threads

_AGAIN = {408, 409, 425, 429}  # and all from 500
_MOST = 1 << 24  # bytes of a reply
_SHOWN = 300  # characters of a reply in an error
_TOP = 20  # alternatives of a token; the most that OpenAI gives


class Patience(NamedTuple):
  """How often a request is repeated, and how long is waited.

  Attributes:
    attempts: the most attempts of a question, >= 1.
    timeout: seconds of an attempt, to the reply's last byte.
    total: seconds of a question with all its attempts and waits.
    first: seconds before the second attempt; doubled for each further attempt.
    longest: the most seconds of such a wait. A wait that the endpoint asks for
      (Retry-After) may be longer.
  """

  attempts: int = 6
  timeout: float = 120.0
  total: float = 600.0
  first: float = 0.5
  longest: float = 30.0


PATIENCE = Patience()


class _Failed(Exception):
  """An attempt failed; `again` says whether another one may help."""

  def __init__(self, problem: str, again: bool, wait: float = 0.0):
    super().__init__(problem)
    self.problem, self.again, self.wait = problem, again, wait


def endpoint(
  url: str,
  model: str,
  *,
  temperature: float = 0.0,
  max_new_tokens: int = 512,
  key_variable: str = "",
  concurrency: int = 8,
  labels: Iterable[str] = (),
  fields: Mapping[str, Any] = MappingProxyType({}),
  patience: Patience = PATIENCE,
  where: str = "endpoint",
) -> LanguageModel:
  """Makes a language model of an endpoint.

  An attempt is repeated after a status of 408, 409, 425, 429 or 5xx, a broken
  connection, a timeout, and a reply that can't be read. The wait before it is
  drawn from [1/2, 1] times `first` 2^n, and is as long as Retry-After asks for.

  Args:
    url: the server, "http://localhost:8000/v1" for example, with or without
      "/chat/completions".
    model: name of the model at the endpoint.
    temperature: 0 for the likeliest completion.
    max_new_tokens: the most tokens of a completion.
    key_variable: environment variable with the endpoint's key; "" for no key.
    concurrency: the most requests at a time.
    labels: labels whose log-probs are wanted at the place of the verdict; with
      any, the request asks for log-probs.
    fields: further fields of the request, such as {"top_p": 0.9}; None leaves
      out a field that would be sent.
    patience: repetitions and time limits.
    where: place of the url, for errors.

  Raises:
    UserError: the url isn't one, holds a key, or a number is out of range; the
      environment variable isn't set; or httpx2 isn't installed.
  """
  address = _address(url, where)
  for name, value in (
    ("concurrency", concurrency),
    ("max_new_tokens", max_new_tokens),
    ("patience.attempts", patience.attempts),
  ):
    if value < 1:
      raise UserError(f"{value} is below 1.", where=name)
  if not 0 <= temperature < float("inf"):
    raise UserError(f"{temperature} is out of range.", where="temperature")
  key, tally, wanted = _key(key_variable), Tally(), tuple(labels)
  _library()
  sent: dict[str, Any] = {
    "model": model,
    "temperature": temperature,
    "max_tokens": max_new_tokens,
  }
  if wanted:
    sent |= {"logprobs": True, "top_logprobs": _TOP}
  sent = {k: v for k, v in (sent | dict(fields)).items() if v is not None}
  hidden: Callable[[str], str] = lambda text: (
    text.replace(key, "***") if key else text
  )

  def request_of(question: Question) -> dict[str, Any]:
    request = sent | {"messages": question.chat}
    if temperature > 0 and "seed" not in fields:
      request["seed"] = question.sample
    return request

  def complete(
    questions: Sequence[Question],
  ) -> Iterable[tuple[int, Completion]]:
    client, stop = _client(key, concurrency, patience), threading.Event()
    ask_one = lambda question: _ask(
      lambda end: _attempt(
        client, address, request_of(question), wanted, patience, end
      ),
      address,
      patience,
      tally,
      hidden,
      stop,
    )
    try:
      yield from in_threads(ask_one, questions, concurrency, stop)
    finally:
      client.close()

  identity = {"endpoint": address, "request": sent, "labels": list(wanted)}
  return LanguageModel(complete, identity, tally)


def _ask(
  attempt_until: Callable[[float], Completion],
  address: str,
  patience: Patience,
  tally: Tally,
  hidden: Callable[[str], str],
  stop: threading.Event,
) -> Completion:
  """Asks a question until there is an answer."""
  start = time.monotonic()
  end = start + patience.total
  for attempt in range(1, patience.attempts + 1):
    try:
      tally.add({"calls": 1, "calls repeated": int(attempt > 1)})
      completion = attempt_until(end)
      tally.add(
        {
          "prompt tokens": completion.prompt_tokens,
          "completion tokens": completion.tokens,
        }
      )
      return completion
    except _Failed as failed:
      wait = min(patience.first * 2 ** (attempt - 1), patience.longest)
      wait = max(random.uniform(wait / 2, wait), failed.wait)
      late = time.monotonic() + wait >= end
      more = failed.again and attempt < patience.attempts and not late
      if more and not stop.wait(wait):
        continue
      spent = time.monotonic() - start
      raise UserError(
        f"{hidden(failed.problem)} ({attempt} attempt"
        f"{'s' if attempt > 1 else ''} in {spent:.0f} s).",
        where=address,
        remedy=(
          "Wait until the endpoint is well, or give it more time or fewer"
          " requests at once; then run the same command again: completions in a"
          " cache aren't asked for again."
          if failed.again
          else "Mend the request: its url, model, key and fields."
        ),
      ) from None
  raise AssertionError("a question has at least one attempt")


def _attempt(
  client: Any,
  address: str,
  request: Mapping[str, Any],
  labels: Sequence[str],
  patience: Patience,
  end: float,
) -> Completion:
  """One request; raises `_Failed`."""
  http = _library()
  last = min(time.monotonic() + patience.timeout, end)
  raw = bytearray()
  try:
    with client.stream(
      "POST", address, json=request, timeout=max(last - time.monotonic(), 0.01)
    ) as reply:
      # A timeout of the library begins anew with every part of a reply.
      for part in reply.iter_bytes():
        raw += part
        if time.monotonic() > last:
          raise _Failed("the endpoint's reply took too long", again=True)
        if len(raw) > _MOST:
          raise _Failed(f"the reply has over {_MOST:,} bytes", again=False)
      status, headers = reply.status_code, reply.headers
  except http.TimeoutException as error:
    problem = f"the endpoint didn't answer in time ({type(error).__name__})"
    raise _Failed(problem, again=True) from None
  except http.TransportError as error:
    problem = f"the endpoint can't be reached ({said(error)})"
    raise _Failed(problem, again=True) from None
  except http.HTTPError as error:  # a reply that isn't what its headers say
    raise _Failed(f"the reply is broken ({said(error)})", again=True) from None
  text = bytes(raw).decode("utf-8", "replace")
  shown = " ".join(text[: 4 * _SHOWN].split())[:_SHOWN] or "nothing"
  if status != 200:
    raise _Failed(
      f"the endpoint answered with status {status}: {shown}",
      again=status in _AGAIN or status >= 500,
      wait=_asked_wait(headers.get("retry-after", "")),
    )
  try:
    return completion_of(text, labels)
  except Unreadable as error:
    problem = f"the endpoint's reply is no chat completion ({error}): {shown}"
    raise _Failed(problem, again=True) from None


def _asked_wait(text: str) -> float:
  """Seconds of a Retry-After header: a number, or a date; 0 for neither."""
  try:
    return min(max(float(text), 0.0), 1e9)
  except ValueError:
    pass
  try:
    date = email.utils.parsedate_to_datetime(text)
  except (TypeError, ValueError):
    return 0.0
  if date.tzinfo is None:
    date = date.replace(tzinfo=datetime.UTC)
  return max((date - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)


def _address(url: str, where: str) -> str:
  try:
    parts = urllib.parse.urlsplit(url)
    usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    named = parts.username is not None or parts.password is not None
    _ = parts.port  # which may be no number
  except ValueError:
    usable, named = False, False
  if not usable:
    raise UserError(
      "the endpoint isn't a url.",
      where=where,
      remedy="Write http://HOST:PORT/v1, for example.",
    )
  if named or parts.query or parts.fragment:
    raise UserError(
      "the url has a user, a key or a query in it.",
      where=where,
      remedy="Write the url without, and put the key into an environment"
      " variable.",
    )
  path = parts.path.rstrip("/")
  if not path.endswith("/chat/completions"):
    path = f"{path or '/v1'}/chat/completions"
  return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _key(variable: str) -> str:
  key = os.environ.get(variable, "").strip() if variable else ""
  if variable and not key:
    raise UserError(
      f"the environment variable {variable!r} isn't set.",
      where="key_variable",
      remedy="Set it to the endpoint's key.",
    )
  if not key.isascii() or not key.isprintable():
    raise UserError(
      f"the key in {variable!r} has characters that no header takes.",
      where="key_variable",
      remedy="Set the variable to the key alone.",
    )
  return key


def _client(key: str, concurrency: int, patience: Patience) -> Any:
  http = _library()
  return http.Client(
    headers={"authorization": f"Bearer {key}"} if key else {},
    limits=http.Limits(max_connections=concurrency),
    timeout=patience.timeout,
    follow_redirects=False,  # another server would see the key
  )


def _library() -> Any:
  try:
    import httpx2  # slow to import, and only needed here
  except ImportError:
    raise UserError(
      "httpx2 isn't installed, by which endpoints are asked.",
      remedy='Install it: pip install "jalign[judge]".',
    ) from None
  return httpx2
