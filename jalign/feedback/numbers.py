r"""Reads the number that a text gives as its answer.

An answer is what the last \boxed{...} holds, or else the last number of the
text. Numbers are read exactly, as fractions: -3, 1,000, 2.5, .5, 2e3,
2 \times 10^3, 1/3, 2 1/3, \frac{1}{3}, $5, 5 %. A sign after a digit, a letter
or a bracket is an operator or a hyphen: "10-3" has the numbers 10 and 3. A
comma that isn't followed by three digits separates numbers: "1,2" are two.
"""

import re
from fractions import Fraction
from typing import NamedTuple

_MOST = 400  # digits of a number, and size of an exponent

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d+)?|(?<![\d.])\.\d+)"
_START = r"(?<!\w)(?<!\d\.)"  # x2 and the 5 of 1.2.5 are no numbers
_NUMBER = re.compile(
  r"(?P<sign>(?<![\w)\]}])[-+](?=[\d.$€£\\]))?"
  r"(?:[$€£](?P<after>[-+])?)?"
  r"(?:"
  r"(?P<whole>\d+)?\s*\\[dt]?frac\s*"
  rf"\{{\s*(?P<top>-?{_PLAIN})\s*\}}\s*\{{\s*(?P<bottom>-?{_PLAIN})\s*\}}"
  rf"|{_START}(?P<mixed>\d+)[ ]+(?P<over>\d+)/(?P<under>\d+)(?![\d/])"
  rf"|{_START}(?P<number>{_PLAIN})"
  r"(?:[eE](?P<exponent>[-+]?\d+))?"
  r"(?:\s*(?:\\times|\\cdot|[×x*])\s*10\s*\^\s*\{?(?P<ten>[-+]?\d+)\}?)?"
  r"(?:\^\s*\{?(?P<power>[-+]?\d+)\}?)?"
  rf"(?:/(?P<divisor>{_PLAIN})(?![\d/]))?"
  r")"
  r"(?P<percent>\s*(?:%|per ?cent\b))?"
)
_ROOT = re.compile(r"(?:\\sqrt\s*(?:\[[^\]]*\])?\s*\{?|√\s*\(?|sqrt\s*\()\s*$")
_GROUPED = re.compile(r"(?<=\d)(?:\\[,!;: ]|[\u00a0\u202f\u2009])(?=\d{3}\b)")
_SPACES = re.compile(r"\\[,!;: ]|[\u00a0\u202f\u2009]")


class Number(NamedTuple):
  """A number of a text.

  Attributes:
    value: the number, as it is written: 5 for "5 %".
    percent: whether a percent sign follows.
  """

  value: Fraction
  percent: bool = False


def answer_of(text: str) -> Number | None:
  r"""The number that a text gives as its answer; None if it gives none.

  The contents of a \boxed{...} must be a number, after "=" and before a unit.
  A root, as in \sqrt{2}, is no number.
  """
  text = _tidied(text)
  box = boxed(text)
  if box is not None:
    return _whole(box.rpartition("=")[2])
  numbers = list(_NUMBER.finditer(text))
  if not numbers or _ROOT.search(text, 0, numbers[-1].start()):
    return None
  return _read(numbers[-1])


def boxed(text: str) -> str | None:
  r"""What the last \boxed{...} of a text holds; None without a whole box."""
  at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
  if at < 0:
    return None
  start = text.index("{", at) + 1
  depth = 1
  for i in range(start, len(text)):
    depth += (text[i] == "{") - (text[i] == "}")
    if not depth:
      return text[start:i]
  return None


def agree(a: Number, b: Number, tolerance: float = 1e-6) -> bool:
  """Whether two numbers agree: |a - b| <= tolerance max(1, |b|).

  Where one of them has a percent sign, it is taken as it is written and as
  hundredths: 50 % agrees with 50 and with 0.5.
  """
  within = Fraction(tolerance)
  near = lambda x, y: abs(x - y) <= within * max(1, abs(y))
  if a.percent == b.percent:
    return near(a.value, b.value)
  if a.percent:
    return near(a.value, b.value) or near(a.value / 100, b.value)
  return near(a.value, b.value) or near(a.value, b.value / 100)


def _tidied(text: str) -> str:
  r"""The text with plain signs, and without LaTeX's \%, \$, {,} and spaces."""
  text = text.replace("\u2212", "-").replace("\\$", "$").replace("\\%", "%")
  text = re.sub(r"(?<=\d)\s*\*\*\s*(?=[-+]?\d)", "^", text)
  text = _GROUPED.sub(",", text.replace("{,}", ","))
  return _SPACES.sub(" ", text)


def _whole(text: str) -> Number | None:
  """Reads a text that is one number, with a unit at most."""
  text = text.strip().strip("$").strip()
  found = _NUMBER.match(text)
  if found is None:
    return None
  rest = text[found.end() :]
  rest = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^}]*\}|\^?\\circ", "", rest)
  if re.search(r"[\d+*/^=\\<>-]", rest):
    return None
  return _read(found)


def _read(found: re.Match) -> Number | None:
  part = found.group
  try:
    if part("top") is not None:
      value = _plain(part("top")) / _plain(part("bottom"))
      value += Fraction(part("whole") or 0)
    elif part("mixed") is not None:
      value = Fraction(int(part("mixed")))
      value += Fraction(int(part("over")), int(part("under")))
    else:
      value = _plain(part("number"))
      if part("power") is not None:
        value = value ** _exponent(part("power"))
      ten = _exponent(part("exponent")) + _exponent(part("ten"))
      value *= Fraction(10) ** ten
      if part("divisor") is not None:
        value /= _plain(part("divisor"))
  except (ValueError, ZeroDivisionError):
    return None
  signs = (part("sign") or "") + (part("after") or "")
  return Number(-value if "-" in signs else value, bool(part("percent")))


def _plain(text: str) -> Fraction:
  if len(text) > _MOST:
    raise ValueError("too long")
  return Fraction(text.replace(",", ""))


def _exponent(text: str | None) -> int:
  value = int(text or 0) if len(text or "") < 9 else _MOST + 1
  if abs(value) > _MOST:
    raise ValueError("too large")
  return value
