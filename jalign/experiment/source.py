"""Records of one source of a run, read, converted and split."""

from typing import Any, NamedTuple

from jalign import data
from jalign.errors import UserError
from jalign.experiment.settings import DataSettings


class Source(NamedTuple):
  """Records of one source.

  Attributes:
    where: config key of its settings.
    train: training records.
    held_out: held-out records.
    reports: of the reading and, if there is one, of the conversion.
    apart: training records left out, since the run holds out their prompts.
  """

  where: str
  train: list[Any]
  held_out: list[Any]
  reports: list[data.Report]
  apart: int = 0

  def without(self, judged: set[str]) -> "Source":
    """The same without training records of some groups.

    Raises:
      UserError: none is left.
    """
    kept = [record for record in self.train if record.group not in judged]
    if not kept:
      raise UserError(
        "all of its records are of prompts that are held out.",
        where=self.where,
        remedy="Give other data, or a smaller config.data.eval_fraction.",
      )
    return self._replace(train=kept, apart=len(self.train) - len(kept))


def read_source(settings: DataSettings, folder: str, where: str) -> Source:
  """Reads and splits one source; `folder` is the tokenizer's, "" for none."""
  records, reports = read_records(settings, settings.path, folder, where)
  train, held_out = data.split(
    records, settings.eval_fraction, settings.split_seed
  )
  return Source(where, train, held_out, reports)


def template_of(
  settings: DataSettings, folder: str, where: str
) -> data.ChatTemplate | None:
  """The chat template that a config names, None for none."""
  if settings.template == "plain":
    return data.PLAIN_CHAT
  if settings.template == "tokenizer":
    if not folder:
      raise UserError(
        f"names no folder, and {where}.template takes its template.",
        where="config.tokenizer.path",
        remedy="Name one, or set data.template to 'plain' or a file.",
      )
    return data.load_template(folder)
  return data.load_template(settings.template) if settings.template else None


def read_records(
  settings: DataSettings, path: str, folder: str, where: str
) -> tuple[list[Any], list[data.Report]]:
  """(records, reports: of the reading and, if there is one, the conversion)."""
  options = {
    "on_error": settings.on_error,
    "data_dir": settings.data_dir,
    "template": template_of(settings, folder, where),
  }
  if settings.source == "conversations":
    del options["template"]  # needed later, where they are encoded
  records, report = data.read(
    settings.source, path, **{k: v for k, v in options.items() if v}
  )
  reports = [report]
  if settings.convert:
    try:
      records, more = data.convert(settings.convert, records)
    except UserError as e:
      raise UserError(
        e.problem, where=f"{where}.convert", remedy=e.remedy
      ) from e
    reports += [more] if more else []
  return records, reports
