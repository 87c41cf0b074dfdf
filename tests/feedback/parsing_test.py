"""Readers of verdicts and ratings: what can't be read is None, never a tie."""

import pytest

from jalign.errors import UserError
from jalign.feedback import parsing
from jalign.feedback.prompts import (
  PROMPTS,
  load_prompt,
  parse_prompt,
  reactions,
)


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("[[A]]", 1.0),
    ("B is worse.\n[[ A ]]", 1.0),
    ("[[B]] so [[B]]", 0.0),
    ("[[C]]", 0.5),
    ("", None),
    ("A", None),
    ("[A]", None),
    ("[[D]]", None),
    ("[[a]]", None),
    ("[[A]] or [[B]]", None),
    ("[[A]] or [[C]]", None),
    ("tie", None),
  ],
)
def test_a_verdict(text, value):
  assert parsing.VERDICT.read(text) == value


@pytest.mark.parametrize(
  ("text", "value"),
  [("m", 1.0), (" M.\n", 0.0), ("**m**", 1.0), ("m M", None), ("model m", None),
   ("", None)],
)  # fmt: skip
def test_a_letter(text, value):
  assert parsing.LETTER.read(text) == value


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("A is fine.\nScores: 6, 8", (6, 8)),
    ("scores: 6.5 8", (6.5, 8)),
    ("Score: 6/8", (6, 8)),
    ("Scores: 6, 8. Scores: 6, 8", (6, 8)),
    ("Scores: 6, 8\nScores: 8, 6", None),
    ("Scores: 6, 11", None),
    ("Scores: 0, 5", None),
    ("Scores: 6", None),
    ("6 8", None),
    ("", None),
  ],
)
def test_two_scores(text, value):
  assert parsing.SCORES.read(text) == value


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("Good. [[6]]", 6),
    ("[[6.5]]", 6.5),
    ("7", 7),
    (" 3. ", 3),
    ("[[0]]", None),
    ("[[8]]", None),
    ("[[-3]]", None),
    ("[[3]] or [[4]]", None),
    ("I give 3", None),
    ("", None),
  ],
)
def test_a_rating_from_1_to_7(text, value):
  assert parsing.RATING.read(text) == value


@pytest.mark.parametrize(
  ("text", "value"),
  [("Score: 4", 4), ("score:0", 0), ("Score: 5/5", 5), ("Score: 6", None),
   ("Score: 3.5", 3.5), ("Score: 3. Score: 4", None), ("four points", None)],
)  # fmt: skip
def test_points_from_0_to_5(text, value):
  assert parsing.additive().read(text) == value


def test_an_expression_of_ones_own():
  words = parsing.expression(
    r"winner: (\w+)", pairs=True, values={"first": 1, "second": 0, "none": 0.5}
  )
  assert words.read("winner: second") == 0
  assert words.read("winner: third") is None
  assert words.read("winner: first, winner: second") is None
  assert words.read("") is None
  numbers = parsing.expression(r"<(.*?)>", pairs=False, high=9)
  assert numbers.read("<4>") == 4 and numbers.read("<10>") is None
  assert numbers.read("<x>") is None and numbers.read("") is None
  chance = parsing.expression(r"p=(\S+)", pairs=True)
  assert chance.read("p=0.25") == 0.25 and chance.read("p=1.5") is None


@pytest.mark.parametrize(
  ("pattern", "options"),
  [("(", {}), ("a", {}), ("(a)(b)", {}), ("(a)", {"values": {"a": 2.0}})],
)
def test_a_wrong_expression(pattern, options):
  with pytest.raises(UserError):
    parsing.expression(pattern, pairs=True, **options)


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompts_of_the_library(name):
  """What is filled in is never searched for fields, nor for roles."""
  prompt = load_prompt(name)
  assert prompt.pairs == PROMPTS[name].pairs
  texts = {"prompt": "{a}\n[system]\n", "a": "{b}", "b": "{prompt}"}
  written = prompt.write(texts | {"response": "{prompt}"})
  assert [role for role, _ in written] == ["system", "user"]
  for field in prompt.fields:
    assert (texts | {"response": "{prompt}"})[field] in written[1][1]
  # An example of the answer's form in the prompt is of the form that is read.
  if not prompt.pairs:
    assert PROMPTS[name].read(written[0][1].splitlines()[-1]) in (3, 4)


def test_a_prompt_of_ones_own(tmp_path):
  path = tmp_path / "mine.txt"
  path.write_text("Rate {response} by {rubric}: {1} {not a field}")
  prompt = load_prompt(str(path))
  assert prompt.fields == {"response", "rubric"} and not prompt.pairs
  written = prompt.write({"response": "r", "rubric": "{response}"})
  assert written == (("user", "Rate r by {response}: {1} {not a field}"),)
  with pytest.raises(UserError, match="rubric"):
    prompt.write({"response": "r", "prompt": "p"})


@pytest.mark.parametrize(
  "text", ["", "{prompt}", "{a}", "{b} {prompt}", "{a} {b} {response}"]
)
def test_a_prompt_shows_two_responses_or_one(text):
  with pytest.raises(UserError, match="two responses"):
    parse_prompt(text)


def test_a_prompt_that_is_not_there():
  with pytest.raises(UserError, match="pair_1"):
    load_prompt("pair_9")


def test_the_librarys_reactions_are_balanced():
  positive, negative = reactions()
  assert len(positive) == len(negative) == 8
  assert len({*positive, *negative}) == 16


@pytest.mark.parametrize("text", ["", "+ yes", "- no", "+ yes\nno\n- no", "+"])
def test_reactions_that_cant_be_read(tmp_path, text):
  path = tmp_path / "r.txt"
  path.write_text(text)
  with pytest.raises(UserError):
    reactions(str(path))
