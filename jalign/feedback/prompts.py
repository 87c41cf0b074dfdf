"""Prompts for language models that judge, written in plain text files.

A line "[system]", "[user]" or "[assistant]" alone begins a message; a file
without such a line is one message of the user. The fields {prompt}, {a} and {b}
stand for a prompt and two responses, {response} for one response, and any other
{name} for a column of the data's row. What is filled in is never searched for
fields, and braces around anything but a name are plain text.

The files that come with the library are versioned by their names: "pair_1"
never changes, and an improved text would be "pair_2".
"""

import importlib.resources
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from jalign.errors import UserError, nearest
from jalign.feedback.completions import Messages
from jalign.feedback.parsing import (
  LETTER,
  RATING,
  SCORES,
  VERDICT,
  Reader,
  additive,
)

_ROLE = re.compile(r"^\[(system|user|assistant)\][ \t]*$", re.MULTILINE)
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_PAIR, _ONE = {"a", "b"}, {"response"}
_FOLDER = "judge_prompts"


class JudgePrompt(NamedTuple):
  """A prompt that a judge is asked with.

  Attributes:
    name: name of a prompt of the library, or a file's path.
    parts: (role, text with fields) of each message.
  """

  name: str
  parts: tuple[tuple[str, str], ...]

  @property
  def fields(self) -> frozenset[str]:
    """Names of the fields."""
    return frozenset(n for _, text in self.parts for n in _FIELD.findall(text))

  @property
  def pairs(self) -> bool:
    """Whether the prompt shows two responses rather than one."""
    return self.fields >= _PAIR

  def write(self, values: Mapping[str, str]) -> Messages:
    """The messages with all fields filled in.

    Args:
      values: a text for each field.

    Raises:
      UserError: a field has no text.
    """

    def filled(match: re.Match[str]) -> str:
      name = match[1]
      if name not in values:
        raise UserError(
          f"{{{name}}} is neither a field nor a column of the row.",
          where=self.name,
          remedy=f"{nearest(name, values)} config.data.judge_columns names the"
          " columns that judges see.",
        )
      return values[name]

    return tuple((role, _FIELD.sub(filled, text)) for role, text in self.parts)


# Prompts of the library, with what reads the answers to them.
PROMPTS: dict[str, Reader] = {
  "pair_1": VERDICT,
  "alpaca_1": LETTER,
  "scores_1": SCORES,
  "rating_1": RATING,
  "additive_1": additive(),
}


def load_prompt(name: str, where: str = "prompt") -> JudgePrompt:
  """Loads a prompt of the library by its name, or a file by its path.

  Args:
    name: a key of `PROMPTS`, or the path of a text file.
    where: place of the name, for errors.

  Raises:
    UserError: there is no such prompt and no such file, or the file shows
      neither two responses nor one.
  """
  if name in PROMPTS:
    return parse_prompt(_shipped(name), name)
  path = pathlib.Path(name)
  if not path.is_file():
    raise UserError(
      f"{name!r} is neither a prompt of the library nor a file.",
      where=where,
      remedy=nearest(name, PROMPTS),
    )
  try:
    text = path.read_text(encoding="utf-8")
  except (OSError, ValueError) as error:
    raise UserError(
      f"the prompt can't be read ({type(error).__name__}).",
      where=f"{where}={name}",
      remedy="Name a text file in UTF-8.",
    ) from None
  return parse_prompt(text, name)


def parse_prompt(text: str, name: str = "prompt") -> JudgePrompt:
  """Reads a prompt from the text of a file.

  Args:
    text: the text.
    name: the prompt's name, for errors.

  Raises:
    UserError: the text shows neither two responses nor one.
  """
  before, *rest = _ROLE.split(text)
  given = list(zip(rest[::2], rest[1::2], strict=True))
  if before.strip():
    given = [("user", before), *given]
  parts = tuple((role, part.strip()) for role, part in given if part.strip())
  prompt = JudgePrompt(name, parts)
  one, two = _ONE & prompt.fields, _PAIR & prompt.fields
  if two == _PAIR and not one or one and not two:
    return prompt
  raise UserError(
    "the prompt must show either two responses, with {a} and {b}, or one, with"
    " {response}.",
    where=name,
    remedy="Write the fields where the texts belong; {prompt} stands for the"
    " prompt.",
  )


def reactions(name: str = "reactions_1") -> tuple[list[str], list[str]]:
  """Positive and negative follow-ups of a user, one to a line of a file.

  Args:
    name: "reactions_1", or the path of a file whose lines begin with "+ " or
      "- ".

  Raises:
    UserError: the file can't be read, or lacks follow-ups of either kind.
  """
  if name == "reactions_1":
    text = _shipped(name)
  else:
    try:
      text = pathlib.Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
      raise UserError(
        f"follow-ups can't be read ({type(error).__name__}).",
        where=name,
        remedy='Name a text file with lines "+ TEXT" and "- TEXT", or take'
        " reactions_1.",
      ) from None
  sides: dict[str, list[str]] = {"+": [], "-": []}
  for number, line in enumerate(text.splitlines(), 1):
    sign, _, said = line.strip().partition(" ")
    if not sign:
      continue
    if sign not in sides or not said.strip():
      raise UserError(
        f"{line.strip()[:40]!r} isn't a follow-up.",
        where=f"{name}:{number}",
        remedy='Write "+ TEXT" or "- TEXT".',
      )
    sides[sign].append(said.strip())
  if not all(sides.values()):
    raise UserError(
      "there must be follow-ups of both kinds.",
      where=name,
      remedy='Write at least one line "+ TEXT" and one "- TEXT".',
    )
  return sides["+"], sides["-"]


def _shipped(name: str) -> str:
  folder = importlib.resources.files("jalign.feedback") / _FOLDER
  return (folder / f"{name}.txt").read_text(encoding="utf-8")
