"""Users' functions get copies, and each failure becomes one paragraph."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment.config import parse, plugins
from jalign.experiment.run_report import Outcome
from jalign.experiment.try_out import try_out
from jalign.feedback import assess, make_answers
from jalign.pages.report import Section
from tests.feedback.judged import judged

MODULE = """
from __future__ import annotations

import asyncio
import dataclasses
import functools
import sys

runs = []


@dataclasses.dataclass
class Rule:
  factor: float = 1.0
  of: Rule | None = None

  def __call__(self, prompt, response):
    return self.factor * len(response)


rule = Rule(2.0)
half = functools.partial(lambda factor, p, r: factor * len(r), 0.5)


def count(prompts, responses):
  runs.append(len(responses))
  return {"calls": [len(runs)] * len(responses)}


def length(prompt, response):
  return len(response)


def first(prompts, a, b):
  prompts.sort(), a.sort(), b.sort()
  return [1.0] + [0.0] * (len(a) - 1)


def fixed(prompts):
  prompts.clear()
  return {"one": ["x", "y"]}


def spoil(prompt, response, row):
  row["more"] = 1
  return len([row["tests"].pop() for _ in row["tests"]])


def spoil_all(prompts, responses, rows):
  responses.clear(), prompts.reverse()
  return [spoil("", "", rows.pop(0)) for _ in prompts]


def spoiler():
  from jalign.feedback import Judge

  return Judge(reward=lambda answers: spoil_all(*answers[:3]))


def pages(outcome):
  outcome.rows.clear()
  return []
"""
TEXTS = (["q", "p"], ["b", "a"], ["d", "c"])


def _settings(folder, **named):
  """Settings that name functions of a file, by key."""
  (folder / "mine.py").write_text(named.pop("text", MODULE))
  (folder / "link.py").unlink(missing_ok=True)
  (folder / "link.py").symlink_to("mine.py")
  kind = named.pop("kind", "reward")
  place = lambda name: f"{folder / name}" if ".py:" in name else name
  found = {key: place(name) for key, name in named.items()}
  report = found.pop("report", "")
  return parse.parse(
    {
      "data": {"path": "pairs.jsonl"},
      "annotator": {"kind": kind, **found},
      "loss": {"name": "dpo"},
      "report": report,
    }
  )


def test_a_file_runs_once_and_may_hold_dataclasses(tmp_path):
  settings = _settings(
    tmp_path,
    function="mine.py:rule",
    measures="link.py:count",
    opponents="mine.py:fixed",
    report="mine.py:pages",
    text=MODULE + "\nrule.factor = 3.0 + len(runs)\nruns.append(1)\n",
  )
  found = plugins.load_plugins(settings)
  np.testing.assert_array_equal(
    assess(found.annotator, make_answers(["q", "q"], ["ab", "c"])).reward,
    [6, 3],
  )
  measured = found.measures(["q"], ["ab"])
  assert measured["calls"].tolist() == [2]  # the module's run, and this call
  again = plugins.load_plugins(settings)  # another run has its own state
  assert again.measures(["q"], ["ab"])["calls"].tolist() == [2]
  half = plugins.load_annotator(_settings(tmp_path, function="mine.py:half"))
  assert half.reward(make_answers(["q"], ["abcd"])) == [2]


def test_a_changed_file_of_the_same_size_is_read_anew(tmp_path):
  for text, want in (("1", 1), ("2", 2)):
    settings = _settings(
      tmp_path, function="mine.py:f", text=f"def f(p, r):\n  return {text}\n"
    )
    judge = plugins.load_annotator(settings)
    assert judge.reward(make_answers(["q"], ["a"])) == [want]
  assert not (tmp_path / "__pycache__").exists()


def test_functions_get_copies(tmp_path):
  found = plugins.load_plugins(
    _settings(
      tmp_path,
      kind="batch",
      function="mine.py:first",
      opponents="mine.py:fixed",
      report="mine.py:pages",
    )
  )
  texts = tuple(list(x) for x in TEXTS)
  np.testing.assert_array_equal(judged(found.annotator, *texts), [1, 0])
  assert found.opponents(texts[0]) == {"one": ["x", "y"]}
  rows = [{"tests": ["x"]}, {"tests": []}]
  for kind, name in (
    ("reward", "spoil"), ("rewards", "spoil_all"), ("judge", "spoiler"),
  ):  # fmt: skip
    settings = _settings(tmp_path, kind=kind, function=f"mine.py:{name}")
    answers = make_answers(*texts[:2], rows)
    got = assess(plugins.load_annotator(settings), answers).reward
    np.testing.assert_array_equal(got, [1, 0])
    assert rows == [{"tests": ["x"]}, {"tests": []}]
  assert texts == TEXTS
  rows = [{"name": "start"}]
  values = dict.fromkeys(Outcome._fields) | {"rows": rows}
  assert found.report(Outcome(**values)) == []
  assert rows == [{"name": "start"}]


# The body of a function, and the message about it.
RAISED = {
  "raise ValueError('no\\n such')": "ValueError: no such",
  "sys.exit(3)": "SystemExit: 3",
  "open('/nowhere/log', 'w')": "No such file or directory: '/nowhere/log'",
  "raise OSError(28, 'No space left on device')": "No space left on device",
  "return 1 / 0": "ZeroDivisionError: division by zero",
  "raise Strange()": "raised Strange for",
  "raise GeneratorExit": "raised GeneratorExit",
}


@pytest.mark.parametrize("kind", ["reward", "rewards", "preference", "batch"])
@pytest.mark.parametrize("does", RAISED)
def test_whatever_is_raised(tmp_path, does, kind):
  names = {"reward": "p, r", "rewards": "p, r, rows"}.get(kind, "p, a, b")
  text = f"""import sys

class Strange(BaseException):
  def __str__(self):
    raise ValueError

def inner():
  {does}

def mine({names}):
  return inner()
"""
  settings = _settings(tmp_path, kind=kind, function="mine.py:mine", text=text)
  annotator = plugins.load_annotator(settings)
  with pytest.raises(UserError) as e:
    judged(annotator, *TEXTS)
  place = f"config.annotator.function: {tmp_path / 'mine.py'}:8: mine raised "
  assert str(e.value).startswith(place)
  want = RAISED[does].removesuffix(" for")
  assert want in str(e.value) and "Mend it, then run" in str(e.value)
  if kind == "reward":
    assert "for 'q', 'b'" in str(e.value)


def test_an_interrupt_passes(tmp_path):
  text = "def mine(p, r):\n  raise KeyboardInterrupt\n"
  settings = _settings(tmp_path, function="mine.py:mine", text=text)
  with pytest.raises(KeyboardInterrupt):
    judged(plugins.load_annotator(settings), *TEXTS)


GIVEN = {
  "None": "gave None, not a number",
  "'0.5'": "gave the text '0.5', not a number",
  "1j": "gave a complex number, not a number",
  "[0.5]": "gave a list of 1, not a number",
  "later()": "gave a coroutine, not a number",
  "(x for x in [1])": "gave a generator, not a number",
  "float('nan')": "gave nan",
  "{}": "gave a dict, not a number",
  "10**5000": "gave an integer that no float holds, not a number",
  "__import__('numpy').ma.masked": "gave MaskedConstant of shape (), not a nu",
}


@pytest.mark.parametrize("value", GIVEN)
@pytest.mark.parametrize("kind", ["reward", "rewards", "preference", "batch"])
def test_what_is_no_number(tmp_path, kind, value, recwarn):
  names = {"reward": "p, r", "rewards": "p, r, rows"}.get(kind, "p, a, b")
  many = kind in ("rewards", "batch")
  made = f"[0.5, {value}]" if many else value
  text = f"""
async def later(): return 1
def mine({names}):
  return {made}
"""
  settings = _settings(tmp_path, kind=kind, function="mine.py:mine", text=text)
  with pytest.raises(UserError) as e:
    judged(plugins.load_annotator(settings), *TEXTS)
  place = f"config.annotator.function: {tmp_path / 'mine.py'}:3: mine gave "
  assert str(e.value).startswith(place)
  if kind == "rewards" and value == "float('nan')":
    assert "gave a reward of nan for response 1" in str(e.value)
  elif many and value != "float('nan')":
    assert GIVEN[value].replace(",", " in place 1,") in str(e.value)
  else:
    assert GIVEN[value] in str(e.value)
  assert not [w for w in recwarn if "awaited" in str(w.message)]


@pytest.mark.parametrize(
  "value",
  ["True", "np.float32(0.25)", "Fraction(1, 4)", "Decimal('0.25')",
   "np.array(0.25)", "jnp.bfloat16(0.25)", "jnp.float32(0.25)", "1"],
)  # fmt: skip
def test_every_kind_of_number_is_one(tmp_path, value):
  text = f"""
from decimal import Decimal
from fractions import Fraction
import jax.numpy as jnp
import numpy as np
def mine(p, a, b):
  return {value}
"""
  want = 1.0 if value in ("True", "1") else 0.25
  settings = _settings(
    tmp_path, kind="preference", function="mine.py:mine", text=text
  )
  got = judged(plugins.load_annotator(settings), *TEXTS)
  np.testing.assert_array_equal(got, [want, want])


@pytest.mark.parametrize(
  "kind, value, said",
  [
    ("preference", "1.5", "gave 1.5, but P is in [0, 1]"),
    ("batch", "[0.1, -0.5]", "gave -0.5, but P is in [0, 1]"),
    ("batch", "[0.5]", "gave shape (1,), not 2 numbers for 2 pairs"),
    ("batch", "[[0.5], [0.5, 1]]", "gave a list of 1 in place 0, not a number"),
    ("batch", "None", "gave None, not 2 numbers for 2 pairs"),
    ("batch", "{'a': 1}", "gave a dict, not 2 numbers for 2 pairs"),
    ("batch", "(0.5 for _ in a)", "gave a generator, not 2 numbers"),
  ],
)
def test_what_is_no_preference(tmp_path, kind, value, said):
  text = f"def mine(p, a, b):\n  return {value}\n"
  settings = _settings(tmp_path, kind=kind, function="mine.py:mine", text=text)
  with pytest.raises(UserError, match=re.escape(f"mine.py:1: mine {said}")):
    judged(plugins.load_annotator(settings), *TEXTS)


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("measures", "[1, 2]", "gave a list of 2, not a dictionary"),
    ("measures", "{'m': [1]}", "gave shape (1,), not 2 numbers for 2 resp"),
    ("measures", "{'m': [1, float('nan')]}", "gave 'm' as nan in place 1"),
    ("measures", "{'m': ['1', '2']}", "gave the text '1' in place 0"),
    ("measures", "{1: [1, 2]}", "gave 1 as a name"),
    ("opponents", "{'o': 'xy'}", "not a list of responses of 'o'"),
    ("opponents", "{'o': ['x']}", "gave 1 responses of 'o' to 2 prompts"),
    ("opponents", "{'o': ['x', None]}", "gave None, not a text"),
    ("opponents", "None", "gave None, not a dictionary"),
    ("report", "None", "gave None, not a list of sections"),
    ("report", "['text']", "gave the text 'text', not a Section"),
  ],
)
def test_measures_opponents_and_reports(tmp_path, key, value, said):
  names = {"measures": "p, r", "opponents": "p", "report": "outcome"}[key]
  text = f"def mine({names}):\n  return {value}\n"
  settings = _settings(tmp_path, text=text, **{key: "mine.py:mine"})
  call = getattr(plugins.load_plugins(settings), key)
  outcome = Outcome(**dict.fromkeys(Outcome._fields))
  given = {"measures": TEXTS[:2], "opponents": TEXTS[:1], "report": [outcome]}
  with pytest.raises(UserError) as e:
    call(*given[key])
  assert said in str(e.value) and f"{tmp_path / 'mine.py'}:1: " in str(e.value)
  assert "annotator" in str(e.value) or key == "report"


def test_sections_of_a_report_pass(tmp_path):
  text = """from jalign.pages.report import Section
def mine(outcome):
  return (Section("mine", "text"),)
"""
  settings = _settings(tmp_path, text=text, report="mine.py:mine")
  report = plugins.load_plugins(settings).report
  outcome = Outcome(**dict.fromkeys(Outcome._fields))
  assert report(outcome) == [Section("mine", "text")]


@pytest.mark.parametrize(
  "name, text, said",
  [
    ("mine.py:rewrd", "def reward(p, r): 0\n", "Did you mean 'reward'?"),
    ("mine.py:x", "x = 1\n", "has something else as 'x'"),
    ("mine.py:x", "import sys\n\nsys.exit('no')\n", "mine.py:3: .*SystemExit"),
    ("mine.py:x", "def x(:\n", "mine.py:1: .*SyntaxError"),
    ("mine.py:x", "import nowhere_at_all\n", "mine.py:1: .*No module named"),
    ("mine.py:x", "def x(p): return 1\n", "mine.py:1: x can't be called"),
    ("mine.py:x", "class x: pass\n", "x can't be called"),
    ("no.py:x", "", "there is no file .*no.py"),
    ("nowhere_at_all:x", "", "No module named"),
    ("reward", "", "Write it as FILE.py:NAME"),
  ],
)
def test_what_cannot_be_loaded(tmp_path, name, text, said):
  settings = _settings(tmp_path, function=name, text=text)
  with pytest.raises(UserError, match=said) as e:
    plugins.load_annotator(settings)
  assert str(e.value).startswith("config.annotator.function: ")


def test_a_trial_sees_prompts_responses_and_nothing(tmp_path):
  text = """seen = []
def reward(prompt, response):
  seen.append((prompt, response))
  return 1 / len(response)
def measures(prompts, responses):
  return {"seen": [len(seen)] * len(responses)}
"""
  settings = _settings(
    tmp_path, text=text, function="mine.py:reward", measures="mine.py:measures"
  )
  found = plugins.load_plugins(settings)
  pair = lambda a, b: SimpleNamespace(chosen=a, rejected=b)
  dataset = SimpleNamespace(
    held_out=[pair("ab", "c"), pair("d", "e")],
    sample_prompts=lambda n: [
      SimpleNamespace(text=x, source=x) for x in "pq"[:n]
    ],
    judge_rows=lambda sources: [{} for _ in sources],
  )
  prepared = SimpleNamespace(
    main=dataset, stages={}, tokenizer=SimpleNamespace(decode=str)
  )
  with pytest.raises(UserError, match="division by zero for 'q', ''"):
    try_out(found, settings, prepared)
  settings = _settings(
    tmp_path,
    text=text.replace("1 / len(response)", "len(response) - math.pi").replace(
      "seen = []", "import math\nseen = []"
    ),
    function="mine.py:reward",
    measures="mine.py:measures",
  )
  found = plugins.load_plugins(settings)
  said = try_out(found, settings, prepared)
  assert said.endswith("tried on 2 prompts") and "mine.py:reward and" in said
  assert found.measures(["p"], ["r"])["seen"] == 4
  rewards = found.annotator.reward(make_answers(["p"], [""]))
  assert math.isclose(rewards[0], -math.pi)
  nothing = plugins.load_plugins(_settings(tmp_path))
  assert try_out(nothing, _settings(tmp_path), prepared) == ""


def test_a_bad_function_is_found_before_anything_is_written(place):
  judge = place.folder / "judge.py"
  judge.write_text("def reward(prompt, response):\n  return str(1.0)\n")
  message = place.fails(
    place.command(f"--config.annotator.function={judge}:reward")
  )
  assert f"{judge}:1: reward gave the text '1.0', not a number" in message
  assert not (place.folder / "run").exists()
