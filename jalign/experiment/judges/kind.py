"""The row of a kind of judge: how a config's annotator becomes a judge."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign import data
from jalign.feedback import Judge

Load = Callable[..., Any]  # (name, key, form, check, names) -> function
Description = Mapping[str, Any]  # function, kind, scale and settings of a judge


class Reading(NamedTuple):
  """How the run that asks a judge writes texts as tokens.

  Attributes:
    tokenizer: the run's tokenizer.
    template: the chat template of the run's prompts; None without one.
  """

  tokenizer: data.Tokenizer
  template: data.ChatTemplate | None


class Tools(NamedTuple):
  """What judges are made with.

  Attributes:
    load: `(name, key, form, check, names) -> guarded function` of a user.
    judge: `(description, where) -> Judge`, for judges made of other judges.
    made_of: `(description, where) -> texts`, what such judges are made of; see
      `JudgeKind.made_of`.
    columns: names of the data's columns that judges get.
    reading: `() -> Reading` of the run that asks; None where no run asks. It
      may be called only when the judge is asked.
  """

  load: Load
  judge: Callable[[Description, str], Judge]
  made_of: Callable[[Description, str], Iterable[str]]
  columns: Callable[[], Sequence[str]]
  reading: Callable[[], Reading | None]


class Named(NamedTuple):
  """What a config says of a judge, beside the settings of the judge's kind.

  Attributes:
    function: the function, folder or name that judges.
    scale: factor on a reward's differences in preferences, > 0.
    where: config key of the judge, for errors: "config.annotator".
    tools: what judges are made with.
  """

  function: str
  scale: float
  where: str
  tools: Tools


def _of_function(named: Named, **settings: Any) -> Iterable[str]:
  del named, settings
  return ()


class JudgeKind(NamedTuple):
  """A kind of judge.

  Attributes:
    about: what `function` names, and what the judge gives.
    make: `(named, *, settings) -> Judge`; the keyword-only parameters are the
      settings of the kind, with their defaults.
    made_of: `(named, **settings) -> texts` that change with whatever decides
      the judge's numbers beside the config: hashes of files, for example.
  """

  about: str
  make: Callable[..., Judge]
  made_of: Callable[..., Iterable[str]] = _of_function
