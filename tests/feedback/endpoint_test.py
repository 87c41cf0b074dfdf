"""An endpoint with OpenAI's interface, with all that can go wrong there."""

import datetime
import email.utils
import json
import math
import threading
import time

import pytest

from jalign.errors import UserError
from jalign.feedback.cache import cached
from jalign.feedback.chat_reply import Unreadable, completion_of
from jalign.feedback.completions import Question, ask
from jalign.feedback.endpoint import Patience, endpoint
from tests.feedback.chat_server import reply, serving

FAST = Patience(attempts=4, timeout=5.0, total=10.0, first=0.01, longest=0.02)
SECRET = "sk-very-secret"


def _questions(*texts):
  return [Question((("user", text),)) for text in texts]


def _echo(number, request):
  return reply(request["messages"][-1]["content"].upper())


def test_a_completion_and_what_it_cost():
  with serving(_echo) as (url, seen):
    model = endpoint(url, "tiny", max_new_tokens=9, patience=FAST)
    system = Question((("system", "s"), ("user", "hello")))
    (got,) = ask(model, [system])
  assert got.text == "HELLO" and not got.cut
  ((path, headers, request),) = seen
  assert path == "/v1/chat/completions"
  assert "authorization" not in {name.lower() for name in headers}
  assert request == {
    "model": "tiny",
    "temperature": 0.0,
    "max_tokens": 9,
    "messages": [
      {"role": "system", "content": "s"},
      {"role": "user", "content": "hello"},
    ],
  }
  counts = {"calls": 1, "prompt tokens": 7, "completion tokens": 3}
  assert model.tally.counts() == counts


def test_answers_belong_to_their_questions_whatever_their_order():
  def answer(number, request):
    text = request["messages"][-1]["content"]
    time.sleep(0.02 if text in ("0", "3") else 0)
    return reply(text)

  with serving(answer) as (url, seen):
    model = endpoint(url, "tiny", concurrency=4, patience=FAST)
    texts = [str(i) for i in range(12)]
    got = ask(model, _questions(*texts, "5", "5"))
  assert [x.text for x in got] == [*texts, "5", "5"]
  assert len(seen) == 12  # equal questions are asked once


def test_no_more_requests_at_a_time_than_allowed():
  now, most, lock = [0], [0], threading.Lock()

  def answer(number, request):
    with lock:
      now[0] += 1
      most[0] = max(most[0], now[0])
    time.sleep(0.02)
    with lock:
      now[0] -= 1
    return reply("x")

  with serving(answer) as (url, _):
    model = endpoint(url, "tiny", concurrency=3, patience=FAST)
    ask(model, _questions(*map(str, range(9))))
  assert most[0] == 3


@pytest.mark.parametrize(
  "bad",
  [
    (500, {}, b"oops"),
    (503, {}, b""),
    (429, {}, b"slow down"),
    (408, {}, b""),
    (200, {}, b"<html>"),
    (200, {}, b"[]"),
    (200, {}, json.dumps({"choices": []}).encode()),
    (200, {}, json.dumps({"choices": [{"text": "x"}]}).encode()),
    (200, {}, b"[" * 100_000),
  ],
)
def test_failures_that_may_pass_are_repeated(bad):
  with serving(lambda n, _: bad if n < 2 else reply("fine")) as (url, seen):
    model = endpoint(url, "tiny", patience=FAST)
    (got,) = ask(model, _questions("q"))
  assert got.text == "fine" and len(seen) == 3
  assert model.tally.counts()["calls repeated"] == 2


def test_an_endpoint_that_stays_ill_is_an_error_that_says_what_it_answered():
  with serving(lambda n, _: (500, {}, b"out of   memory")) as (url, seen):
    model = endpoint(url, "tiny", patience=FAST)
    with pytest.raises(UserError, match="status 500: out of memory") as error:
      ask(model, _questions("q"))
  assert len(seen) == FAST.attempts
  assert error.value.where == f"{url}/chat/completions"
  assert "4 attempts" in str(error.value)
  assert "run the same command again" in error.value.remedy


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301])
def test_a_wrong_request_is_not_repeated(status):
  body = json.dumps({"error": {"message": "no such model"}}).encode()
  headers = {"location": "http://127.0.0.1:1/"}
  with serving(lambda n, _: (status, headers, body)) as (url, seen):
    model = endpoint(url, "tiny", patience=FAST)
    with pytest.raises(UserError, match=f"status {status}.*no such model"):
      ask(model, _questions("q"))
  assert len(seen) == 1


@pytest.mark.parametrize("date", [False, True])
def test_a_rate_limit_says_how_long_to_wait(date):
  """A date has whole seconds: of 2 s at least one is left."""
  later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
  wait = email.utils.format_datetime(later, usegmt=True) if date else "0.3"
  limit = (429, {"retry-after": wait}, b"")
  with serving(lambda n, _: limit if n < 1 else reply("x")) as (url, _):
    model = endpoint(url, "tiny", patience=FAST)
    start = time.monotonic()
    ask(model, _questions("q"))
  assert time.monotonic() - start >= (0.5 if date else 0.3)


def test_a_wait_beyond_the_total_time_ends_at_once():
  limit = (429, {"retry-after": "3600"}, b"quota")
  with serving(lambda n, _: limit) as (url, seen):
    model = endpoint(url, "tiny", patience=FAST)
    start = time.monotonic()
    with pytest.raises(UserError, match="status 429: quota"):
      ask(model, _questions("q"))
  assert len(seen) == 1 and time.monotonic() - start < 5


def test_a_silent_endpoint_times_out():
  slow = Patience(attempts=2, timeout=0.1, total=5, first=0.01, longest=0.01)

  def answer(number, request):
    time.sleep(0.5)
    return reply("late")

  with serving(answer) as (url, seen):
    model = endpoint(url, "tiny", patience=slow)
    with pytest.raises(UserError, match="in time .*2 attempts"):
      ask(model, _questions("q"))
  assert len(seen) == 2


def test_a_reply_that_drips_is_cut_off_at_the_timeout():
  slow = Patience(attempts=1, timeout=0.3, total=5)
  drips = (200, {}, [b" "] * 100, 0.05)
  with serving(lambda n, _: drips) as (url, _):
    model = endpoint(url, "tiny", patience=slow)
    start = time.monotonic()
    with pytest.raises(UserError, match="took too long"):
      ask(model, _questions("q"))
  assert time.monotonic() - start < 2


def test_a_server_that_is_not_there():
  with serving(_echo) as (url, _):
    pass
  model = endpoint(url, "tiny", patience=FAST)
  with pytest.raises(UserError, match="can't be reached.*4 attempts"):
    ask(model, _questions("q"))


def test_the_key_stands_in_the_header_alone(monkeypatch, tmp_path):
  monkeypatch.setenv("MY_KEY", SECRET)

  def answer(number, request):
    if request["messages"][-1]["content"] == "bad":
      return 401, {}, f"wrong key {SECRET}".encode()
    return reply("x")

  with serving(answer) as (url, seen):
    model = endpoint(url, "tiny", key_variable="MY_KEY", patience=FAST)
    model = cached(model, tmp_path / "cache.db")
    ask(model, _questions("good"))
    with pytest.raises(UserError, match=r"wrong key \*\*\*") as error:
      ask(model, _questions("bad"))
  headers = {name.lower(): value for name, value in seen[0][1].items()}
  assert headers["authorization"] == f"Bearer {SECRET}"
  assert SECRET not in str(error.value) + json.dumps(dict(model.identity))
  assert SECRET.encode() not in (tmp_path / "cache.db").read_bytes()


def test_what_was_answered_before_a_failure_is_kept(tmp_path):
  """The next try asks only for what is missing."""
  broken = [True]

  def answer(number, request):
    text = request["messages"][-1]["content"]
    return (400, {}, b"no") if text == "2" and broken[0] else reply(text)

  with serving(answer) as (url, seen):
    make = lambda: cached(
      endpoint(url, "tiny", concurrency=1, patience=FAST), tmp_path / "c"
    )
    with pytest.raises(UserError):
      ask(make(), _questions("0", "1", "2", "3"))
    broken[0], before = False, len(seen)
    model = make()
    got = ask(model, _questions("0", "1", "2", "3"))
  assert [x.text for x in got] == ["0", "1", "2", "3"]
  assert before == 3 and len(seen) == 5
  assert model.tally.counts()["cache hits"] == 2


def test_samples_have_seeds_and_fields_can_be_changed():
  with serving(_echo) as (url, seen):
    model = endpoint(
      f"{url}/chat/completions",
      "tiny",
      temperature=1.0,
      concurrency=1,
      fields={"max_tokens": None, "max_completion_tokens": 5, "top_p": 0.9},
      patience=FAST,
    )
    ask(model, [Question((("user", "q"),), k) for k in (0, 1)])
  bodies = [request for _, _, request in seen]
  assert [body.pop("seed") for body in bodies] == [0, 1]
  assert bodies[0] == bodies[1] and "max_tokens" not in bodies[0]
  assert bodies[0]["max_completion_tokens"] == 5
  assert bodies[0]["top_p"] == 0.9


def test_log_probs_of_the_verdict():
  """The verdict is the last label; tokens of one label are added up."""
  tops = [
    ("A", {"A": -5.0, "B": -6.0}),
    (" so [[", {"x": 0.0}),
    (" B", {"B": math.log(0.5), " B": math.log(0.1), "A": math.log(0.2)}),
    ("]]", {"]]": 0.0}),
  ]
  body = reply("A so [[ B]]", tops=tops)
  with serving(lambda n, _: body) as (url, seen):
    model = endpoint(url, "tiny", labels=("A", "B"), patience=FAST)
    (got,) = ask(model, _questions("q"))
  assert seen[0][2]["logprobs"] is True
  assert got.label_logps == pytest.approx(
    {"A": math.log(0.2), "B": math.log(0.6)}
  )


@pytest.mark.parametrize(
  ("body", "why"),
  [
    ("{", "no JSON"),
    ("{}", "no choices"),
    ('{"choices": []}', "empty"),
    ('{"choices": [1]}', "no message"),
    ('{"choices": [{"message": {"content": 3}}]}', "no text"),
  ],
)
def test_a_body_that_is_no_chat_completion(body, why):
  with pytest.raises(Unreadable, match=why):
    completion_of(body)


def test_a_refusal_is_an_empty_completion():
  body = {
    "choices": [{"message": {"content": None}, "finish_reason": "length"}]
  }
  got = completion_of(json.dumps(body), ["A"])
  assert got.text == "" and got.cut and got.label_logps is None


@pytest.mark.parametrize(
  "url",
  ["", "localhost:8000", "ftp://x/v1", "http://", "http://h:x/v1",
   "http://me:key@h/v1", "http://h/v1?key=1"],
)  # fmt: skip
def test_a_wrong_url(url):
  with pytest.raises(UserError):
    endpoint(url, "tiny")


@pytest.mark.parametrize(
  "options",
  [
    {"concurrency": 0},
    {"max_new_tokens": 0},
    {"temperature": -1.0},
    {"temperature": math.nan},
    {"patience": Patience(attempts=0)},
    {"key_variable": "NO_SUCH_VARIABLE_HERE"},
  ],
)
def test_options_out_of_range(options):
  with pytest.raises(UserError):
    endpoint("http://localhost:1/v1", "tiny", **options)


@pytest.mark.parametrize(
  ("url", "address"),
  [
    ("http://h", "http://h/v1/chat/completions"),
    ("http://h:8/v1/", "http://h:8/v1/chat/completions"),
    ("https://h/a/b", "https://h/a/b/chat/completions"),
    ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
  ],
)
def test_the_address_of_an_endpoint(url, address):
  assert endpoint(url, "tiny").identity["endpoint"] == address
