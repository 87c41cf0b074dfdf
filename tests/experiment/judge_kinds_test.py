"""Judges that a config describes: verifiers, combinations, rules, noise."""

import json
import typing
from collections.abc import Mapping

import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.experiment.judges import JUDGES, made_of
from jalign.experiment.plugins import load_annotator
from jalign.feedback import assess, make_answers
from tests.feedback.judged import judged

FUNCTIONS = """
def length(prompt, response):
  return float(len(response))


def vowels(prompt, response):
  return float(sum(c in "aeiou" for c in response))


def longer(prompt, a, b):
  return 0.9 if len(a) > len(b) else 0.1 if len(a) < len(b) else 0.5


def first(prompt, a, b):
  return 0.8


def factors(prompts, responses):
  return {
    "length": [len(x) for x in responses],
    "vowels": [vowels(None, x) for x in responses],
  }
"""
WORLD = "jalign.data.tldr_world:measures"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "own.py").write_text(FUNCTIONS)
  return tmp_path


def _settings(columns=(), **annotator):
  return parse(
    {
      "annotator": annotator,
      "data": {"path": "x.jsonl", "judge_columns": columns},
    }
  )


def _judge(columns=(), **annotator):
  return load_annotator(_settings(columns, **annotator))


def _named(name, kind="reward", **more):
  return {"function": f"own.py:{name}", "kind": kind, **more}


def _rewards(judge, texts, rows=None):
  return assess(judge, make_answers(["p"] * len(texts), texts, rows))


def test_a_verifier_reads_its_column_and_settings():
  judge = _judge(
    ("answer",),
    function="numeric",
    kind="verifier",
    settings={"column": "answer", "tolerance": 0.5, "after": "so"},
  )
  rows = [{"answer": "1,000"}] * 3
  told = _rewards(judge, ["so 1000.4", "1000", "so 1"], rows)
  assert told.reward.tolist() == [1, 0, 0]
  assert told.parts["answered"].tolist() == [1, 0, 1]
  found = _judge(
    function="format", kind="verifier", settings={"pattern": "a+"}, scale=2.0
  )
  p = judged(found, ["p"], ["aa"], ["b"])
  np.testing.assert_allclose(p, 1 / (1 + np.exp(-2.0)), rtol=1e-6)


def test_a_sum_of_judges_in_a_config():
  judge = _judge(
    kind="combined",
    scale=0.5,
    settings={
      "judges": {
        "size": _named("length"),
        "form": {
          "function": "format",
          "kind": "verifier",
          "settings": {"pattern": "[a-z]+"},
        },
      },
      "weights": {"size": -1, "form": 10.0},
    },
  )
  told = _rewards(judge, ["abc", "ab1"])
  assert told.reward.tolist() == [7, -3]
  assert told.parts["form answered"].tolist() == [1, 1]
  p = judged(judge, ["p"], ["abc"], ["ab1"])
  np.testing.assert_allclose(p, 1 / (1 + np.exp(-5.0)), rtol=1e-6)


def test_other_ways_to_combine(folder):
  both = {"size": _named("length"), "vowels": _named("vowels")}
  make = lambda **more: _judge(
    kind="combined", settings={"judges": both, **more}
  )
  low = make(how="ensemble", rule="minimum")
  assert _rewards(low, ["abc", "aei"]).reward.tolist() == [1, 3]
  (folder / "r.jsonl").write_text(
    json.dumps({"prompt": "p", "size": [1, 2, 3], "vowels": 9})
  )
  judge = make(
    how="and", references={"size": "r.jsonl", "vowels": 1}, quantile=1.0
  )
  log = lambda x: -np.log1p(np.exp(-x))
  np.testing.assert_allclose(
    _rewards(judge, ["abc"]).reward, log(0.0) + log(0.0)
  )
  passing = make(how="all_pass", threshold=2)
  assert _rewards(passing, ["abc", "aeb"]).reward.tolist() == [0, 1]
  pairs = {
    "x": _named("longer", "preference"),
    "y": _named("first", "preference"),
  }
  mean = _judge(
    kind="combined",
    settings={"judges": pairs, "how": "mixture", "weights": {"x": 3, "y": 1}},
  )
  found = judged(mean, ["p"], ["aa"], ["a"])
  np.testing.assert_allclose(found, 0.75 * 0.9 + 0.25 * 0.8, rtol=1e-6)
  pool = _judge(
    kind="combined", settings={"judges": pairs, "how": "pool", "seed": 1}
  )
  prompts = [f"p{i}" for i in range(50)]
  found = judged(pool, prompts, ["aa"] * 50, ["a"] * 50)
  np.testing.assert_allclose(sorted(set(found)), [0.8, 0.9], rtol=1e-6)
  fair = _judge(
    kind="combined",
    settings={"judges": {"y": pairs["y"]}, "how": "both_orders"},
  )
  assert judged(fair, ["p"], ["aa"], ["a"]) == pytest.approx([0.5])


def test_a_judge_by_task_and_a_judge_of_segments(folder):
  (folder / "parts.py").write_text(
    "def words(prompt, response):\n"
    "  return [(i + 1, 1.0) for i, c in enumerate(response) if c == 'a']\n"
    "def wrong(prompt, response):\n"
    "  return [(99, 1.0)]\n"
  )
  described = {"function": "parts.py:words", "kind": "segments"}
  judge = _judge(**described)
  answers = make_answers(["p"], ["aba"])
  assert judge.segments(answers) == [[(1, 1.0), (3, 1.0)]]
  assert _rewards(judge, ["aba"]).reward.tolist() == [2]
  with pytest.raises(UserError, match="ends at character 99 of 3") as e:
    _rewards(_judge(function="parts.py:wrong", kind="segments"), ["aba"])
  assert "parts.py" in e.value.where or "annotator.function" in e.value.where
  judge = _judge(
    kind="combined",
    settings={
      "judges": {"count": described, "length": _named("length")},
      "how": "by_task",
      "column": "job",
    },
  )
  rows = [{"job": "count"}, {"job": "length"}]
  found = assess(judge, make_answers(["p", "p"], ["aba", "aba"], rows))
  np.testing.assert_array_equal(found.reward, [2, 3])


def test_noise_of_a_described_judge():
  judge = _judge(
    kind="noisy",
    settings={"judge": _named("longer", "preference"), "share": 0.5, "seed": 2},
  )
  prompts = [f"p{i}" for i in range(200)]
  found = judged(judge, prompts, ["aa"] * 200, ["a"] * 200)
  assert set(found) == {0.0, 1.0} and abs(found.mean() - 0.5) < 0.15


def test_rules_and_a_constitution_of_the_worlds_measures(folder):
  posts = [world.post(i) for i in range(6)]
  names = list(world.ARCHETYPES)
  texts = {n: [world.archetype(n, post) for post in posts] for n in names}
  prompts = [post.text for post in posts]
  rows = [
    (post, x, y)
    for i, post in enumerate(prompts)
    for x in (texts[n][i] for n in names)
    for y in (texts[n][i] for n in names)
  ]
  group = world.annotator(world.GROUPS["brevity first"])
  p = group(*zip(*rows))
  judge = _judge(
    function=WORLD,
    kind="rules",
    settings={
      "rules": (("words", -1), ("coverage %", 1, 0.0)),
      "tremble": 0.05,
    },
  )
  columns = [list(column) for column in zip(*rows)]
  found = judged(judge, *columns)
  decided = ~np.isnan(found)
  assert decided.mean() > 0.8
  np.testing.assert_allclose(found[decided], p[decided], rtol=1e-6)
  assert judge.counts()["by words"] > judge.counts().get("by coverage %", 0)
  labelled = [
    {"prompt": post, "chosen": x, "rejected": y}
    for (post, x, y), q in zip(rows, p)
    if q > 0.5
  ]
  (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, labelled)))
  induced = _judge(
    function=WORLD,
    kind="constitution",
    settings={"pairs": "pairs.jsonl", "most": 1},
  )
  assert set(induced.counts()) == set()
  found = judged(induced, *columns)
  decided = ~np.isnan(found)
  assert "by -words" in induced.counts()
  np.testing.assert_array_equal(found[decided] > 0.5, p[decided] > 0.5)
  fixed = _judge(
    function=WORLD,
    kind="constitution",
    settings={"principles": ("-words", "+coverage %"), "tremble": 0.05},
  )
  np.testing.assert_allclose(judged(fixed, *columns), judged(judge, *columns))


def test_what_a_judge_is_made_of_changes_with_its_files(folder):
  path = folder / "r.jsonl"
  path.write_text(json.dumps({"prompt": "p", "size": 1}))
  settings = _settings(
    kind="combined",
    settings={
      "judges": {"size": _named("length")},
      "how": "and",
      "references": {"size": "r.jsonl"},
    },
  )
  one = made_of(settings)
  path.write_text(json.dumps({"prompt": "p", "size": 2}))
  two = made_of(settings)
  (folder / "own.py").write_text(FUNCTIONS.replace("0.9", "0.7"))
  assert one and len({one, two, made_of(settings)}) == 3
  noisy = _settings(kind="noisy", settings={"judge": _named("length")})
  assert made_of(noisy)


BAD = {
  "no verifier": {"function": "numerics", "kind": "verifier"},
  "no column 'answer'.*judge_columns": {
    "function": "numeric",
    "kind": "verifier",
  },
  r"settings.pattern.*no such setting": {
    "function": "numeric",
    "kind": "verifier",
    "settings": {"pattern": "x"},
  },
  r"settings.pattern: .*needs this setting": {
    "function": "format",
    "kind": "verifier",
  },
  r"settings.pattern: '\('": {
    "function": "format",
    "kind": "verifier",
    "settings": {"pattern": "("},
  },
  r"tolerance: '1' is not a number": {
    "function": "numeric",
    "kind": "verifier",
    "settings": {"tolerance": "1"},
  },
  "describes no judges": {"kind": "combined", "settings": {"how": "sum"}},
  "Did you mean 'pool'": {
    "kind": "combined",
    "settings": {"judges": {"x": _named("length")}, "how": "pol"},
  },
  r"judges.x.kind: 'rewad'": {
    "kind": "combined",
    "settings": {"judges": {"x": _named("length", "rewad")}},
  },
  "settings.k: .*no such setting": {
    "kind": "combined",
    "settings": {
      "judges": {"x": _named("length")},
      "weights": {"x": 1},
      "k": 1.0,
    },
  },
  "no reward is weighed": {
    "kind": "combined",
    "settings": {"judges": {"x": _named("length")}},
  },
  "isn't read: the judges are": {
    "function": "own.py:length",
    "kind": "combined",
    "settings": {"judges": {"x": _named("length")}},
  },
  "scale: isn't read": {
    "kind": "noisy",
    "scale": 2.0,
    "settings": {"judge": _named("length")},
  },
  "settings.share: 0.7 is outside": {
    "kind": "noisy",
    "settings": {"judge": _named("length"), "share": 0.7},
  },
  "describes no judge": {"kind": "noisy", "settings": {"share": 0.1}},
  r"\('words',\) is no rule|is no rule": {
    "function": WORLD,
    "kind": "rules",
    "settings": {"rules": (("words", "more"),)},
  },
  "there are no rules": {"function": WORLD, "kind": "rules"},
  "isn't a list of principles": {
    "function": WORLD,
    "kind": "constitution",
    "settings": {"principles": ("words",)},
  },
  "names no function": {
    "kind": "constitution",
    "settings": {"principles": ("+words",)},
  },
  "no principles to judge by": {"function": WORLD, "kind": "constitution"},
  "pairs: none.jsonl": {
    "function": WORLD,
    "kind": "constitution",
    "settings": {"pairs": "none.jsonl"},
  },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_descriptions_are_named(message):
  with pytest.raises(UserError, match=message):
    _judge(**BAD[message])


def test_settings_of_another_type_are_named():
  wrong = {bool: 1, float: "x", int: "x", str: 3, Mapping: 3}
  for name, kind in JUDGES.items():
    made_by = kind.make
    made_by = getattr(made_by, "func", made_by)
    for key, hint in typing.get_type_hints(made_by).items():
      plain = typing.get_origin(hint) or hint
      if key in ("named", "return") or plain not in wrong:
        continue
      with pytest.raises(UserError) as e:
        _judge(
          function="own.py:factors", kind=name, settings={key: wrong[plain]}
        )
      assert e.value.where == f"config.annotator.settings.{key}"


def test_factors_that_are_not_there_are_listed():
  for kind, settings in (
    ("rules", {"rules": (("lenght", 1),)}),
    ("constitution", {"principles": ("+lenght",)}),
  ):
    judge = _judge(function="own.py:factors", kind=kind, settings=settings)
    with pytest.raises(UserError, match=r"'lenght'.*Did you mean 'length'"):
      judged(judge, ["p"], ["a"], ["b"])
