"""Verifiers on texts with known verdicts; code within its limits."""

import time
from fractions import Fraction

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import assess, make_answers, reward_statistics
from jalign.feedback.numbers import Number, agree, answer_of
from jalign.feedback.programs import Limits, code_of, run_tests
from jalign.feedback.verifiers import VERIFIERS, judge_of, make

NUMBERS = {
  "1,000": 1000,
  "-3": -3,
  "\u22123": -3,
  "2e3": 2000,
  "1.5E-3": Fraction(3, 2000),
  "$5": 5,
  "-$5": -5,
  "$-5": -5,
  "€1,000.50": Fraction(2001, 2),
  r"\frac{1}{3}": Fraction(1, 3),
  r"-\dfrac{1}{2}": Fraction(-1, 2),
  r"2\frac{1}{3}": Fraction(7, 3),
  "2 1/3": Fraction(7, 3),
  "1/3": Fraction(1, 3),
  "the difference 10-3": 3,
  "10 - 3 = 7.": 7,
  "pages 3-5": 5,
  "- 5 apples": 5,  # a list's dash
  "H2O is 18": 18,
  "1,2,3": 3,
  ".5": Fraction(1, 2),
  "2^10": 1024,
  "2**10": 1024,
  "**5**": 5,
  r"2 \times 10^{3}": 2000,
  "1{,}000": 1000,
  r"1\,000": 1000,
  "#### 72": 72,
  r"\boxed{42}, not 7": 42,
  r"\boxed{x=5}": 5,
  r"\boxed{5\text{ kg}}": 5,
  r"\boxed{\frac{3}{4}}": Fraction(3, 4),
  r"\boxed{-7^\circ}": -7,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_exactly(text):
  assert answer_of(text) == Number(NUMBERS[text])


@pytest.mark.parametrize(
  "text",
  ["", "none", "x2", r"\boxed{\sqrt{2}}", r"it is \sqrt{2}", "1/0"]
  + [r"\boxed{(1,2)}", "9" * 500, "1e999999999", r"\boxed{1} \boxed{2+3}"],
)
def test_no_number_is_no_answer(text):
  assert answer_of(text) is None


def test_percent_is_read_both_ways_against_a_plain_number():
  assert answer_of(r"50\%") == Number(Fraction(50), True)
  half, fifty = Number(Fraction(1, 2)), Number(Fraction(50))
  percent = answer_of("50 percent")
  assert agree(percent, half) and agree(fifty, percent)
  assert not agree(half, fifty)
  assert not agree(percent, answer_of("5%"))


def _asked(verifier, texts, rows=None):
  told = assess(judge_of(verifier), make_answers(texts, texts, rows))
  return told.reward.tolist(), {k: x.tolist() for k, x in told.parts.items()}


def test_a_tolerance_is_relative_above_one():
  rows = [{"answer": 1000.0}] * 3
  texts = ["1001", "1001.1", "999"]
  found, _ = _asked(make("numeric", tolerance=1e-3), texts, rows)
  assert found == [1, 0, 1]
  found, _ = _asked(
    make("numeric", tolerance=0.0), ["0.1"], [{"answer": "1/10"}]
  )
  assert found == [1]


def test_numeric_counts_what_gives_no_answer():
  rows = [{"answer": x} for x in ("#### 1,000", 3, ["1/2", "0.25"], None)]
  texts = ["so it is 1000.", "no idea", r"\boxed{.25}", "7"]
  found, parts = _asked(make("numeric"), texts, rows)
  assert found == [1, 0, 1, 0]
  assert parts["answered"] == [1, 0, 1, 1]
  assert parts["no_reference"] == [0, 0, 0, 1]


def test_exact_match_normalises_and_takes_several_references():
  rows = [{"answer": ["Paris", "the City of Light"]}] * 5
  texts = [
    "Well. Answer:  paris.",
    "Answer: The  city of\nlight!",
    "Answer: Lyon",
    "paris",
    "Answer: ",
  ]
  found, parts = _asked(make("exact_match", after="Answer:"), texts, rows)
  assert found == [1, 1, 0, 0, 0]
  assert parts["answered"] == [1, 1, 1, 0, 0]
  strict = make("exact_match", ignore_case=False)
  rows = [{"answer": "-3"}, {"answer": "No"}, {"answer": "Ja"}]
  found, _ = _asked(strict, ["3", "no", " Ja. "], rows)
  assert found == [0, 0, 1]


def test_format_is_of_the_whole_response_and_regex_of_a_part():
  pattern = r"(?s)<think>.*</think>\s*\d+"
  texts = ["<think>a\nb</think> 12\n", "x <think>a</think> 12", ""]
  assert _asked(make("format", pattern=pattern), texts)[0] == [1, 0, 0]
  assert _asked(make("regex", pattern=pattern), texts)[0] == [1, 1, 0]
  last = make("regex", pattern=r"\((\w)\)", column="key")
  found, parts = _asked(last, ["(A) or (b)", "(C)", "b"], [{"key": "B"}] * 3)
  assert found == [1, 0, 0] and parts["answered"] == [1, 1, 0]


def test_bad_settings_and_columns_are_named():
  with pytest.raises(UserError, match="no regular expression"):
    make("format", pattern="(")
  with pytest.raises(UserError, match="'numeric'"):
    make("numerical")
  with pytest.raises(UserError, match=r"no column 'answr'.*'answer'"):
    _asked(make("numeric", column="answr"), ["1"], [{"answer": "1", "id": 3}])
  with pytest.raises(UserError, match="config.data.judge_columns"):
    _asked(make("exact_match"), ["1"])
  with pytest.raises(UserError, match=r"'blue' has no number.*exact_match"):
    _asked(make("numeric"), ["1"], [{"answer": "blue"}])
  with pytest.raises(UserError, match="must be >= 0"):
    make("numeric", tolerance=-1.0)
  with pytest.raises(UserError, match="64 MiB"):
    make("unit_tests", memory=1)
  assert set(VERIFIERS) == {
    "format",
    "regex",
    "exact_match",
    "numeric",
    "unit_tests",
  }


def test_the_last_block_of_code_is_tested():
  assert code_of("a ```python\nx = 1\n``` b ```\ny = 2\n```") == "y = 2\n"
  assert code_of("x = 1") is None
  tests = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == -1"]
  rows = [{"tests": tests}, {"tests": tests[0]}, {"tests": None}]
  square = "```python\ndef f(x):\n  return x * x\n```"
  verifier = make("unit_tests")
  told = assess(
    judge_of(verifier), make_answers("abc", [square, "no code", square], rows)
  )
  np.testing.assert_allclose(told.reward, [2 / 3, 0, 0])
  assert told.parts["answered"].tolist() == [1, 0, 1]
  assert told.parts["no_reference"].tolist() == [0, 0, 1]
  assert told.parts["timeouts"].tolist() == [0, 0, 0]
  statistics = reward_statistics(told, [0, 1, 2])
  assert statistics["part_answered_mean"] == pytest.approx(2 / 3)


def test_code_can_neither_hang_nor_pass_by_leaving(tmp_path):
  """Loops end, output is bounded, and only a test that ends has passed."""
  file = tmp_path / "kept"
  file.write_text("kept")
  slow = [
    "while True: pass",
    "import time\ntime.sleep(60)",
    "import os\nos.close(1)\nfor i in range(3, 64):\n  try: os.close(i)\n"
    "  except OSError: pass\nimport time\ntime.sleep(60)",
    "while True:\n  try: input()\n  except BaseException: pass",
  ]
  wrong = [
    "exit()",
    "import os\nos._exit(0)",
    "raise KeyboardInterrupt",
    "x = bytearray(2 << 30)",
    "def f(): f()\nf()",
    "f(",
    "import os\nfor i in range(64):\n  try: os.write(i, b'y' * 9999)\n"
    "  except OSError: pass",
    f"open({str(tmp_path / 'new')!r}, 'w')",
    f"import os\nos.remove({str(file)!r})",
    f"import os\nos.truncate({str(file)!r}, 0)",
    "import os\nos.fork()",
    "import subprocess\nsubprocess.run(['true'])",
    "import threading\nthreading.Thread(target=int).start()",
    "import socket\nsocket.socket()",
    "import os\nos.kill(os.getppid(), 0)",
    "import os\nos.setsid()",
    "import os\nos.pidfd_open(os.getppid())",
    "import os, resource as r\nr.prlimit(os.getppid(), r.RLIMIT_NOFILE)",
    "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o600) >= 0",
    "import os\nassert 'PATH' not in os.environ and 0",
  ]
  (probe,) = run_tests([("", "")], Limits())
  holds = {
    "files": ("open(", "os.remove", "os.truncate"),
    "processes": (
      "fork",
      "subprocess",
      "threading",
      "socket",
      "kill",
      "setsid",
      "pidfd",
      "prlimit",
      "shmget",
    ),
  }
  for lacking in probe.lacking:  # this system has no means for these
    words = holds.get(lacking, ())
    wrong = [code for code in wrong if not any(w in code for w in words)]
  right = [
    "print('y' * 10**7)\nimport json, math, re, collections",
    "import os\nassert 'PATH' not in os.environ",
    "import sys\nassert not sys.stdin.read()",
    "import resource as r\nassert r.getrlimit(r.RLIMIT_NOFILE) == (64, 64)",
    "s = '\\ud800 \u00e9'",
  ]
  began = time.monotonic()
  jobs = [(code, "") for code in (*slow, *wrong, *right)]
  found = run_tests(jobs, Limits(seconds=2.0, memory=512, workers=2))
  passed = [outcome.passed for outcome in found]
  late = [outcome.timed_out for outcome in found]
  count = len(slow), len(wrong), len(right)
  assert late == [True] * count[0] + [False] * sum(count[1:])
  assert passed == [False] * sum(count[:2]) + [True] * count[2]
  assert file.read_text() == "kept" and not (tmp_path / "new").exists()
  assert time.monotonic() - began < 60


def test_a_test_runs_after_the_code_and_apart_from_other_tests():
  jobs = [("x = [1]", "x.append(2); assert x == [1, 2]")] * 2
  jobs += [("if __name__ == '__main__':\n  raise ValueError", "")]
  assert [o.passed for o in run_tests(jobs, Limits())] == [True] * 3
