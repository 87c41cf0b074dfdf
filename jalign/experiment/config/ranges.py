"""Refuses settings whose values have the right type but make no sense."""

from jalign.data import SOURCES
from jalign.decode import Sampler, sampler
from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import (
  DataSettings,
  DiagnosticsSettings,
  DrawingSettings,
  SamplerSettings,
  StageSettings,
)


def check_diagnostics(diagnostics: DiagnosticsSettings, where: str) -> None:
  """Checks a stage's diagnostics; raises UserError."""
  kinds = ("", "probe")
  for key, allowed in (
    ("entanglement", (*kinds, "step", "both")),
    ("likelihood", kinds),
    ("policy", kinds),
  ):
    if getattr(diagnostics, key) not in allowed:
      listed = ", ".join(map(repr, allowed))
      raise UserError(
        f"{getattr(diagnostics, key)!r} is not one of {listed}.",
        where=f"{where}.{key}",
      )
  for key, least in (("pairs", 1), ("top_k", 1), ("every", 0), ("samples", 0)):
    if getattr(diagnostics, key) < least:
      raise UserError(f"must be at least {least}.", where=f"{where}.{key}")


_LEAST = {
  "batch_size": 1,
  "microbatches": 1,
  "log_every": 1,
  "keep_newest": 2,
  "steps": 0,
  "epochs": 0,
  "eval_every": 0,
  "save_every": 0,
  "save_minutes": 0,
  "keep_every": 0,
  "slots": 0,
  "packing": 0,
}


def check_counts(stage: StageSettings, where: str) -> None:
  """Checks the numbers of a stage by themselves; raises UserError."""
  for key, least in _LEAST.items():
    if getattr(stage, key) < least:
      problem = (
        f"must be at least {least}." if least else "must not be negative."
      )
      raise UserError(problem, where=f"{where}.{key}")
  every = stage.keep_every
  if every and (not stage.save_every or every % stage.save_every):
    raise UserError(
      f"{every} is not a multiple of save_every ({stage.save_every}), so that"
      " such steps aren't saved.",
      where=f"{where}.keep_every",
      remedy=f"Choose a multiple of {where}.save_every, or 0.",
    )


def check_data(data: DataSettings, where: str) -> None:
  """Checks the settings of a data source; raises UserError."""
  if data.source not in SOURCES:
    raise UserError(
      f"unknown source {data.source!r}.",
      where=f"{where}.source",
      remedy=nearest(data.source, SOURCES),
    )
  if data.on_error not in ("", "error", "skip"):
    raise UserError(
      f"{data.on_error!r} is not 'error' or 'skip'.",
      where=f"{where}.on_error",
    )
  if not data.buckets:
    raise UserError("names no length.", where=f"{where}.buckets")
  if not data.path:
    raise UserError(
      "names no file.",
      where=f"{where}.path",
      remedy=f"Set it: --{where}.path=FILE.",
    )


def check_sample(sample: SamplerSettings) -> None:
  """Checks how held-out samples are drawn; raises UserError."""
  for key in ("prompts", "per_prompt", "max_new_tokens"):
    if getattr(sample, key) < 1:
      raise UserError("must be at least 1.", where=f"config.sample.{key}")
  for key in ("best_of", "eval_prompts"):
    if getattr(sample, key) < 0:
      raise UserError("must not be negative.", where=f"config.sample.{key}")
  if sample.best_of == 1:
    raise UserError(
      "best of 1 is the policy itself.",
      where="config.sample.best_of",
      remedy="Give 2 or more, or 0 for none.",
    )
  draw_of(sample)  # checks the other settings


def check_drawing(drawing: DrawingSettings, where: str) -> None:
  """Checks how an algorithm's responses are drawn; raises UserError."""
  if drawing.temperature <= 0:
    raise UserError(
      f"{drawing.temperature:g} must be > 0: an algorithm learns from samples.",
      where=f"{where}.drawing.temperature",
    )
  try:
    drawing_of(drawing)
  except UserError as e:
    at = e.where.removeprefix("sampler.")
    raise UserError(
      e.problem, where=f"{where}.drawing.{at}", remedy=e.remedy
    ) from None


def drawing_of(settings: DrawingSettings) -> Sampler:
  """Makes the sampler of an algorithm's responses."""
  return sampler(
    temperature=settings.temperature,
    top_k=settings.top_k,
    top_p=settings.top_p,
  )


def draw_of(settings: SamplerSettings) -> Sampler:
  """Makes the sampler that the settings describe."""
  return sampler(
    temperature=settings.temperature,
    top_k=settings.top_k,
    top_p=settings.top_p,
    min_p=settings.min_p,
  )
