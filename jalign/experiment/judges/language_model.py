"""Judges that are language models: local, or behind an HTTP endpoint."""

import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from jalign.decode import sampler
from jalign.errors import UserError, nearest
from jalign.experiment.disk.kept import named as template_name
from jalign.experiment.disk.kept import template_for
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.experiment.judges.model import fingerprint, mesh_now
from jalign.experiment.policies import load_policy
from jalign.feedback import Judge
from jalign.feedback.cache import cached
from jalign.feedback.completions import LanguageModel
from jalign.feedback.endpoint import PATIENCE, Patience, endpoint
from jalign.feedback.follow_up import from_follow_ups, reaction_scores
from jalign.feedback.language_model import from_language_model
from jalign.feedback.local_model import ROWS, Loaded, local_model
from jalign.feedback.parsing import READERS, Reader
from jalign.feedback.prompts import PROMPTS, load_prompt, reactions
from jalign.losses.signature import hyperparameters
from jalign.models import hf

_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Settings that only an endpoint, or only a local model has.
_FAR = (
  "model", "key_variable", "concurrency", "attempts", "timeout", "total",
  "fields",
)  # fmt: skip
_NEAR = ("template", "rows", "seed")


def _make(
  named: Named,
  *,
  prompt: str = "pair_1",
  parse: str = "",
  parse_settings: Mapping[str, Any] = _NOTHING,
  samples: int = 1,
  soft: bool = False,
  temperature: float = 0.0,
  max_new_tokens: int = 512,
  cache: str = "",
  model: str = "",
  key_variable: str = "",
  concurrency: int = 8,
  attempts: int = PATIENCE.attempts,
  timeout: float = PATIENCE.timeout,
  total: float = PATIENCE.total,
  fields: Mapping[str, Any] = _NOTHING,
  template: str = "",
  rows: int = ROWS,
  seed: int = 0,
) -> Judge:
  """Makes a judge of a language model.

  Args:
    named: the judge's description; its function is the url of an endpoint, or
      the folder of a run or a checkpoint.
    prompt: a prompt of `jalign.feedback.prompts.PROMPTS`, or a file.
    parse: a reader of `jalign.feedback.parsing.READERS`; "" for the prompt's.
    parse_settings: the reader's arguments.
    samples: k, number of answers, in each order where there are two.
    soft: whether the labels' probabilities take the verdict's place.
    temperature: 0 for the likeliest answer.
    max_new_tokens: the most tokens of an answer.
    cache: file that keeps completions; "" for none.
    model: of an endpoint, name of the model.
    key_variable: of an endpoint, environment variable with the key.
    concurrency: of an endpoint, the most requests at a time.
    attempts: of an endpoint, the most attempts of a question.
    timeout: of an endpoint, seconds of an attempt.
    total: of an endpoint, seconds of a question with all its attempts.
    fields: of an endpoint, further fields of the request.
    template: of a local model, its chat template: "" for its own, or "none",
      "plain", a tokenizer's folder or a file.
    rows: of a local model, number of answers that are decoded at a time.
    seed: of a local model, seed of the draws.
  """
  values = {k: v for k, v in locals().items() if k != "named"}
  far = _is_url(named.function)
  _check_unread(named, values, _NEAR if far else _FAR, far)
  where = f"{named.where}.settings"
  text = told(where, lambda: load_prompt(prompt, "prompt"))
  reader = told(where, lambda: _reader(prompt, parse, parse_settings))
  labels = tuple(reader.labels) if soft else ()

  def asked() -> LanguageModel:
    if far:
      if not model:
        raise UserError(
          "names no model.",
          where="model",
          remedy="Write the name that the endpoint has for the model.",
        )
      return endpoint(
        named.function,
        model,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        key_variable=key_variable,
        concurrency=concurrency,
        labels=labels,
        fields=fields,
        patience=Patience(attempts, timeout, total),
        where="function",
      )
    return local_model(
      loading(named, template),
      sampler(temperature=temperature),
      identity=_local_identity(named, template, temperature),
      max_new_tokens=max_new_tokens,
      labels=labels,
      rows=rows,
      seed=seed,
    )

  language_model = told(where, asked)
  if cache:
    uncached = language_model
    language_model = told(where, lambda: cached(uncached, cache))
  return told(
    where,
    lambda: from_language_model(
      language_model,
      text,
      reader,
      samples=samples,
      soft=soft,
      scale=named.scale,
    ),
  )


def _make_self_rewarding(
  named: Named,
  *,
  prompt: str = "additive_1",
  samples: int = 3,
  temperature: float = 1.0,
  max_new_tokens: int = 512,
  cache: str = "",
  template: str = "",
  rows: int = ROWS,
  seed: int = 0,
) -> Judge:
  """Makes the judge of self-rewarding: the policy's own grades of 0 to 5.

  Yuan et al. 2024, arXiv:2401.10020: the model of the last iteration grades
  responses by an additive prompt, and the mean of three grades is the reward.
  An iteration is a run that begins from the model that also judges.

  Args:
    named: the judge's description; its function is the folder of the model that
      the iteration begins from.
    prompt: shows one response; grades are read as "Score: 3".
    samples: number of grades of a response.
    temperature: of the grades.
    max_new_tokens: the most tokens of a grade with its reasons.
    cache: file that keeps completions; "" for none.
    template: the model's chat template, as for a language model.
    rows: number of grades that are decoded at a time.
    seed: seed of the draws.
  """
  values = {k: v for k, v in locals().items() if k != "named"}
  if prompt not in PROMPTS:
    values["parse"] = "additive"
  return _make(named, **values)


def _make_follow_up(
  named: Named,
  *,
  reactions_file: str = "reactions_1",
  between: str = "\n\n",
  template: str = "",
  rows: int = ROWS,
) -> Judge:
  """Makes a judge of the likelihood of a user's reactions.

  Args:
    named: the judge's description; its function is the folder of a model.
    reactions_file: "reactions_1", or a file with lines "+ TEXT" and "- TEXT".
    between: text between response and reaction where there is no template.
    template: the model's chat template, as for a language model.
    rows: number of reactions that are scored at a time.
  """
  where = f"{named.where}.settings"
  positive, negative = told(where, lambda: reactions(reactions_file))
  load = loading(named, template)
  return from_follow_ups(
    reaction_scores(load, between=between, rows=rows),
    positive,
    negative,
    scale=named.scale,
    together=True,
  )


def _is_url(name: str) -> bool:
  return name.startswith(("http://", "https://"))


def _reader(prompt: str, parse: str, settings: Mapping[str, Any]) -> Reader:
  if not parse:
    if prompt not in PROMPTS:
      raise UserError(
        "must say how answers to a prompt of one's own are read.",
        where="parse",
        remedy=nearest("", READERS),
      )
    if settings:
      raise UserError("are for a `parse` of one's own.", where="parse_settings")
    return PROMPTS[prompt]
  if parse not in READERS:
    raise UserError(
      f"{parse!r} reads no answers.",
      where="parse",
      remedy=nearest(parse, READERS),
    )
  try:
    return READERS[parse](**settings)
  except TypeError as error:
    raise UserError(
      f"{parse} isn't made of {dict(settings)} ({error}).",
      where="parse_settings",
      remedy="See jalign.feedback.parsing for its arguments.",
    ) from None


def _check_unread(
  named: Named, values: Mapping[str, Any], names: Iterable[str], far: bool
) -> None:
  """Refuses settings that this kind of language model doesn't read."""
  defaults = hyperparameters(_make)
  for name in names:
    if values[name] != defaults[name]:
      this, other = "an endpoint", "a model on the run's own devices"
      raise UserError(
        f"isn't read by {this if far else other}.",
        where=f"{named.where}.settings.{name}",
        remedy=f"Leave it out; it is for {other if far else this}."
        + ("" if far else " The url of an endpoint begins with http or https."),
      )


def loading(named: Named, template: str) -> Callable[[], Loaded]:
  """Makes `() -> Loaded`; what can be checked before is checked now."""
  folder = folder_of(named)
  chat = told(
    f"{named.where}.settings.template", lambda: template_for(template, folder)
  )

  def load() -> Loaded:
    own = load_policy(str(folder), mesh_now())
    positions = own.config.learned_positions or 0
    return Loaded(own.model, own.params, own.tokenizer, chat, positions)

  return load


def folder_of(named: Named) -> pathlib.Path:
  if not named.function:
    raise UserError(
      "names no model.",
      where=f"{named.where}.function",
      remedy="Name a run, a checkpoint, or the url of an endpoint.",
    )
  return told(f"{named.where}.function", lambda: hf.resolve(named.function))


def _local_identity(
  named: Named, template: str, temperature: float
) -> dict[str, Any]:
  folder = folder_of(named)
  chat = template_for(template, folder)
  return {
    "model": fingerprint(folder),
    "template": "" if chat is None else f"{template_name(chat)}\n{chat.text}",
    "temperature": temperature,
  }


def told(where: str, function: Callable[[], Any]) -> Any:
  """Calls a function; the places of its UserErrors begin with the config's."""
  try:
    return function()
  except UserError as e:
    at = where.removesuffix(".settings") if e.where == "function" else where
    place = f"{at}.{e.where}" if e.where.isidentifier() else where
    where = place if place != where or not e.where else f"{where}: {e.where}"
    raise UserError(e.problem, where=where, remedy=e.remedy) from e


def _made_of(named: Named, **settings: Any) -> Iterable[str]:
  made = [] if _is_url(named.function) else [fingerprint(folder_of(named))]
  for key in ("prompt", "reactions_file"):
    path = pathlib.Path(str(settings.get(key, "")))
    if path.is_file():
      made.append(hashlib.sha256(path.read_bytes()).hexdigest()[:32])
  return made


LANGUAGE_MODELS: dict[str, JudgeKind] = {
  "language_model": JudgeKind(
    "a language model that is asked with a prompt: a run, a checkpoint, or the"
    " url of an endpoint with OpenAI's chat interface; a preference of both"
    " orders, or a rating as the reward",
    _make,
    _made_of,
  ),
  "self_rewarding": JudgeKind(
    "a run or a checkpoint that grades responses with 0 to 5 points; the mean"
    " of three grades is the reward (arXiv:2401.10020)",
    _make_self_rewarding,
    _made_of,
  ),
  "follow_up": JudgeKind(
    "a run or a checkpoint; the reward is how likely a user goes on with a"
    " positive reaction rather than a negative one (arXiv:2409.13948)",
    _make_follow_up,
    _made_of,
  ),
}
