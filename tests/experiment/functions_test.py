"""Users' functions get copies, and each failure becomes one paragraph."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment import plugins
from jalign.experiment.run_report import Outcome
from jalign.experiment.try_out import try_out
from jalign.feedback import assess, make_answers
from jalign.pages.report import Section
from tests.experiment.functions import MODULE, TEXTS, settings_of
from tests.feedback.judged import judged


def test_a_file_runs_once_and_may_hold_dataclasses(tmp_path):
  settings = settings_of(
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
  half = plugins.load_annotator(settings_of(tmp_path, function="mine.py:half"))
  assert half.reward(make_answers(["q"], ["abcd"])) == [2]


def test_a_changed_file_of_the_same_size_is_read_anew(tmp_path):
  for text, want in (("1", 1), ("2", 2)):
    settings = settings_of(
      tmp_path, function="mine.py:f", text=f"def f(p, r):\n  return {text}\n"
    )
    judge = plugins.load_annotator(settings)
    assert judge.reward(make_answers(["q"], ["a"])) == [want]
  assert not (tmp_path / "__pycache__").exists()


def test_functions_get_copies(tmp_path):
  found = plugins.load_plugins(
    settings_of(
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
    settings = settings_of(tmp_path, kind=kind, function=f"mine.py:{name}")
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
  settings = settings_of(
    tmp_path, kind=kind, function="mine.py:mine", text=text
  )
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
  settings = settings_of(tmp_path, function="mine.py:mine", text=text)
  with pytest.raises(KeyboardInterrupt):
    judged(plugins.load_annotator(settings), *TEXTS)


def test_sections_of_a_report_pass(tmp_path):
  text = """from jalign.pages.report import Section
def mine(outcome):
  return (Section("mine", "text"),)
"""
  settings = settings_of(tmp_path, text=text, report="mine.py:mine")
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
  settings = settings_of(tmp_path, function=name, text=text)
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
  settings = settings_of(
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
  settings = settings_of(
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
  nothing = plugins.load_plugins(settings_of(tmp_path))
  assert try_out(nothing, settings_of(tmp_path), prepared) == ""


def test_a_bad_function_is_found_before_anything_is_written(place):
  judge = place.folder / "judge.py"
  judge.write_text("def reward(prompt, response):\n  return str(1.0)\n")
  message = place.fails(
    place.command(f"--config.annotator.function={judge}:reward")
  )
  assert f"{judge}:1: reward gave the text '1.0', not a number" in message
  assert not (place.folder / "run").exists()
