"""Completions on disk: keyed by content, shared by processes, no code in it."""

import json
import sqlite3
import subprocess
import sys

import pytest

from jalign.errors import UserError
from jalign.feedback.cache import cached
from jalign.feedback.completions import (
  Completion,
  LanguageModel,
  Question,
  ask,
  from_function,
  key_of,
)
from jalign.feedback.counts import Tally


def _question(text, sample=0):
  return Question((("user", text),), sample)


def _counted(name="f"):
  asked = []

  def function(texts):
    asked.extend(texts)
    return [text.upper() for text in texts]

  return from_function(function, name), asked


def test_a_question_is_asked_once_in_all_processes(tmp_path):
  path = tmp_path / "cache.db"
  model, asked = _counted()
  questions = [_question(x) for x in ("a", "b", "a")]
  assert [x.text for x in ask(cached(model, path), questions)] == [
    "A",
    "B",
    "A",
  ]
  assert asked == ["a", "b"]
  again, asked_again = _counted()
  got = ask(cached(again, path), [*questions, _question("c")])
  assert [x.text for x in got] == ["A", "B", "A", "C"]
  assert asked_again == ["c"]
  assert again.tally.counts() == {"cache hits": 2, "calls": 1}


def test_the_key_is_the_content():
  identity = {"model": "m", "temperature": 0.0}
  base = key_of(identity, _question("a"))
  assert base == key_of({"temperature": 0.0, "model": "m"}, _question("a"))
  others = [
    key_of(identity | {"temperature": 1.0}, _question("a")),
    key_of(identity | {"model": "n"}, _question("a")),
    key_of(identity, _question("b")),
    key_of(identity, _question("a", 1)),
    key_of(identity, Question((("system", "a"),))),
    key_of(identity, Question((("user", ""), ("user", "a")))),
  ]
  assert len({base, *others}) == 7


def test_all_of_a_completion_is_kept(tmp_path):
  whole = Completion("é\n\0", 5, 2, True, {"A": -0.25, "B": -float("inf")})
  model = LanguageModel(lambda q: [(0, whole)], {}, Tally())
  path = tmp_path / "cache.db"
  ask(cached(model, path), [_question("a")])
  none = LanguageModel(lambda q: pytest.fail("asked"), {}, Tally())
  assert ask(cached(none, path), [_question("a")]) == [whole]


def test_the_file_can_be_read_without_the_library(tmp_path):
  model, _ = _counted("me")
  ask(cached(model, tmp_path / "c"), [_question("a")])
  with sqlite3.connect(tmp_path / "c") as database:
    ((question, completion),) = database.execute(
      "SELECT question, completion FROM completions"
    )
  database.close()
  assert json.loads(question)["messages"] == [["user", "a"]]
  assert json.loads(completion)["text"] == "A"


@pytest.mark.slow
def test_several_processes_write_at_the_same_time(tmp_path):
  code = """
import sys
from jalign.feedback.cache import cached
from jalign.feedback.completions import Question, ask, from_function
model = cached(from_function(lambda xs: xs, "f"), sys.argv[1])
for i in range(40):
  ask(model, [Question((("user", f"{i} {k}"),)) for k in (0, int(sys.argv[2]))])
"""
  path = str(tmp_path / "c")
  processes = [
    subprocess.Popen([sys.executable, "-c", code, path, str(i)]) for i in (1, 2)
  ]
  assert [process.wait(120) for process in processes] == [0, 0]
  with sqlite3.connect(path) as database:
    ((count,),) = database.execute("SELECT count(*) FROM completions")
  database.close()
  assert count == 120


def test_a_file_that_is_no_cache(tmp_path):
  path = tmp_path / "notes.txt"
  path.write_text("not a database" * 100)
  with pytest.raises(UserError, match="can't be used"):
    cached(_counted()[0], path)
  assert path.read_text().startswith("not a database")
  with pytest.raises(UserError, match="can't be used"):
    cached(_counted()[0], tmp_path / "no" / "folder.db")


@pytest.mark.parametrize("text", ["{", "[]", '{"text": 3}', '{"new": 1}'])
def test_a_damaged_row_is_an_error(tmp_path, text):
  model, _ = _counted()
  ask(cached(model, tmp_path / "c"), [_question("a")])
  with sqlite3.connect(tmp_path / "c") as database:
    database.execute("UPDATE completions SET completion = ?", (text,))
  database.close()
  with pytest.raises(UserError, match="no completion"):
    ask(cached(model, tmp_path / "c"), [_question("a")])


@pytest.mark.parametrize(
  "function",
  [
    lambda texts: None,
    lambda texts: [],
    lambda texts: [None for _ in texts],
    lambda texts: 1 / 0,
  ],
)
def test_a_function_that_gives_no_texts(function):
  with pytest.raises(UserError, match="mine"):
    ask(from_function(function, "mine"), [_question("a")])


def test_a_model_that_leaves_a_question_out():
  model = LanguageModel(lambda q: [], {"model": "m"}, Tally())
  with pytest.raises(UserError, match="left 1 of 1"):
    ask(model, [_question("a")])
