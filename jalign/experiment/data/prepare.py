"""Prepares records, tokenizer and encoded data of a run and of its stages."""

import dataclasses
import datetime
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from jalign import data
from jalign.data.conversations import end_of
from jalign.data.rows import BadRow
from jalign.errors import UserError
from jalign.experiment.config.settings import DataSettings, Settings
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.judge_rows import JudgeRows, read_judge_rows
from jalign.experiment.data.source import (
  Source,
  read_records,
  read_source,
  say_seen,
  seen_in,
  told_apart,
  trained_groups,
)
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk import kept
from jalign.training.kinds import PAIRS, RECORDS
from jalign.training.progress import follow

_TEXTS = (
  "context",
  "prompt",
  "chosen",
  "rejected",
  "response",
  "chosen_critique",
  "rejected_critique",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
  """The data of a run.

  Attributes:
    tokenizer: loaded, or trained on the data.
    main: the data that is held out and judged.
    stages: name of a stage -> the data that it is trained on.
    lines: what was read, held out and cut, for readers.
    templates: value of data.template -> chat template.
    day: the day that the run began, which a template may write.
    trained: split keys of all training records.
  """

  tokenizer: data.Tokenizer
  main: Dataset
  stages: dict[str, Dataset]
  lines: tuple[str, ...]
  templates: kept.Templates
  day: datetime.date
  trained: frozenset[str] = frozenset()

  def summary(self) -> str:
    """A few lines on what was read, held out and cut."""
    return "\n".join(f"[data] {line}" for line in self.lines)

  def save(self, folder: pathlib.Path, settings: Settings) -> None:
    """Writes tokenizer/ and data.json into the folder."""
    kept.keep(folder, settings, self.tokenizer, self.templates)
    own = {
      name: dataset.facts
      for name, dataset in self.stages.items()
      if dataset is not self.main
    }
    facts = {**self.main.facts, "vocab_size": self.tokenizer.vocab_size}
    folders.write_json(
      folder / "data.json", facts | ({"stages": own} if own else {})
    )

  def with_pairs(self, path: str, settings: Settings) -> "Prepared":
    """This data, with all pairs of another file as the held-out ones."""
    self.main.check(PAIRS, "config.data")
    records, reports = read_records(
      settings.data,
      path,
      self.templates[settings.data.template],
      "config.data",
    )
    held_out, cut = data.encode_pairs(
      records, self.tokenizer, _limits(settings.data)
    )
    rows = read_judge_rows(settings.data, "config.data", [path], [records])
    main = dataclasses.replace(
      self.main,
      held_out=held_out,
      rows_by_source=rows.by_source,
      eval_prompts=_prompts(records, self.tokenizer, settings.data),
      group_of={r.source: r.group for r in records},
    )
    lines = [*(r.summary() for r in reports), cut.summary(), *rows.lines]
    seen = seen_in(self.trained, records)
    if seen:
      lines.append(say_seen(seen, len(records), reports[-1].noun))
    return dataclasses.replace(self, main=main, lines=tuple(lines))


def prepare(
  settings: Settings, folder: pathlib.Path, base: pathlib.Path | None
) -> Prepared:
  """Reads, splits and tokenises a run's data; writes nothing.

  Args:
    settings: the run's settings.
    folder: the run's folder; the tokenizer, templates and date that it keeps
      are used.
    base: folder of the tokenizer to use, or None.

  Raises:
    UserError: the data is bad, or settings contradict each other.
  """
  day = kept.date_of(folder)
  templates = kept.templates_of(settings, folder, day)
  wheres = {settings.data: "config.data"}
  for stage in settings.stages:
    wheres.setdefault(stage.data, f"config.{stage.name}.data")
  sources = {
    section: read_source(section, templates[section.template], where)
    for section, where in follow(wheres.items(), "reading data", "source")
  }
  sources = told_apart(sources, settings.data)
  # Merges are learnt from training texts only. A small language's words are
  # all listed, since held-out ones could not be encoded otherwise.
  whole = settings.tokenizer.kind == "words"
  texts = itertools.chain.from_iterable(
    _texts([*s.train, *(s.held_out if whole else ())]) for s in sources.values()
  )
  tokenizer = _tokenizer(settings, folder, base, texts)
  for section in reversed(sources):  # the run's own section, the first, wins
    tokenizer = kept.ended(tokenizer, templates[section.template])
  sampled = {settings.data, *(s.data for s in settings.stages if s.samples)}
  datasets = {
    section: _encode(
      section,
      templates[section.template],
      tokenizer,
      source,
      section in sampled,
    )
    for section, source in follow(sources.items(), "encoding data", "source")
  }
  given = settings.init_from or settings.tokenizer.path
  return Prepared(
    tokenizer,
    datasets[settings.data],
    {stage.name: datasets[stage.data] for stage in settings.stages},
    (
      *itertools.chain.from_iterable(d.lines for d in datasets.values()),
      f"tokenizer of {tokenizer.vocab_size} tokens,"
      f" {f'from {given}' if given else 'trained on this data'}",
    ),
    templates,
    day,
    trained_groups(sources.values()),
  )


def _encode(
  settings: DataSettings,
  template: data.ChatTemplate | None,
  tokenizer: data.Tokenizer,
  source: Source,
  sampled: bool,
) -> Dataset:
  """Encodes records; adds rows for a judge if prompts are sampled for."""
  where, train, held_out, reports = source[:4]
  tokenizer = kept.ended(tokenizer, template)

  records = RECORDS[type(train[0])]
  if records.templated and template is None:
    raise UserError(
      "no template is named, and conversations need one.",
      where=f"{where}.template",
      remedy="Set it to 'plain', 'tokenizer', a tokenizer's folder or a file of"
      " Jinja.",
    )
  groups = len({r.group for r in held_out})
  noun = reports[-1].noun
  lines = [
    *(report.summary() for report in reports),
    *(f"held out: {r.summary()}" for r in source.held_out_reports),
    f"{len(train)} {noun} to train on, {len(held_out)} held out"
    f" ({groups} groups of prompts, {'some' if source.seen else 'none'} in"
    " both)",
  ]
  facts: dict[str, Any] = {"source": reports[0].to_dict()}
  if source.apart:
    lines.append(
      f"{source.apart} more are not trained on, since the run holds out their"
      " prompts"
    )
    facts["held_out_by_the_run"] = source.apart
  if source.held_out_reports:
    facts["held_out_source"] = source.held_out_reports[0].to_dict()
    facts["held_out_trained_on"] = len(source.seen)
  if source.seen:
    lines.append(say_seen(source.seen, len(held_out), noun))
  if len(reports) > 1:
    facts["convert"] = reports[1].to_dict()
  parts: list[list[Any]] = [[], []]
  if template is not None and template.opens:
    lines.append(
      f"{where}: the template's generation prompt opens {template.opens!r};"
      " answers that the template writes without it begin before it"
    )
  if records.encode is not None:
    for i, (name, part) in enumerate((("train", train), ("eval", held_out))):
      parts[i], cut = records.encode(
        part, tokenizer, _limits(settings), template
      )
      facts[name] = cut.to_dict()
      place = {"train": "training", "eval": "held out"}[name]
      lines.append(f"{place}: {cut.summary()}")
  if template is not None and records.templated:
    train = [opening(r, template) for r in train]
    held_out = [opening(r, template) for r in held_out]
  rows = JudgeRows()
  if sampled:
    paths = filter(None, (settings.path, settings.eval_path))
    rows = read_judge_rows(settings, where, paths, (train, held_out))
    lines += rows.lines
    facts |= {"judge_rows": rows.facts} if rows.facts else {}
  prompts = lambda records: _prompts(records, tokenizer, settings)
  return Dataset(
    kind=records.kind,
    train=parts[0],
    held_out=parts[1],
    train_prompts=prompts(train),
    eval_prompts=prompts(held_out),
    group_of={r.source: r.group for r in (*train, *held_out)},
    buckets=settings.buckets,
    pad_id=tokenizer.pad_id,
    facts=facts,
    lines=tuple(lines),
    rows_by_source=rows.by_source,
  )


def opening(
  record: data.ConversationRecord, template: data.ChatTemplate
) -> data.PromptRecord:
  """The messages before the assistant's last turn, as a prompt."""
  last = max(
    i for i, m in enumerate(record.messages) if m["role"] == "assistant"
  )
  own = template.given(record.variables)
  before, turn = record.messages[:last], record.messages[last : last + 1]
  try:
    text = own.exchange(before, turn)[0]
  except BadRow:
    text = own.render(before, prompt=True)
  return data.PromptRecord(
    text, record.source, record.group, end=end_of(template)
  )


def _texts(records: Sequence[Any]) -> Iterator[str]:
  """Yields the records' texts, to train a tokenizer on."""
  for record in records:
    for field in _TEXTS:
      if hasattr(record, field):
        yield getattr(record, field)
    yield from getattr(record, "responses", ())
    for message in getattr(record, "messages", ()):
      yield message["content"]


def _limits(settings: DataSettings) -> data.Limits:
  return data.Limits(
    max_tokens=max(settings.buckets),
    max_prompt_tokens=settings.max_prompt_tokens,
    max_response_tokens=settings.max_response_tokens,
  )


def _prompts(records, tokenizer, settings) -> list[data.EncodedPrompt]:
  return data.encode_prompts(
    data.unique_prompts(records), tokenizer, settings.max_prompt_tokens
  )


def _tokenizer(settings: Settings, folder, base, texts) -> data.Tokenizer:
  own = folder / "tokenizer"
  if base is not None and settings.tokenizer.path:
    raise UserError(
      "init_from gives the tokenizer.",
      where="config.tokenizer.path",
      remedy="Leave config.tokenizer.path empty.",
    )
  if own.exists():
    return data.load(own)
  if base is not None:
    return data.load(base)
  if settings.tokenizer.path:
    return data.load(settings.tokenizer.path)
  if settings.tokenizer.kind == "words":
    if any(stage.data.template for stage in settings.stages):
      raise UserError(
        "'words' can't write a chat template's own words.",
        where="config.tokenizer.kind",
        remedy="Use 'bpe' for conversations.",
      )
    return data.train_words(texts)
  return data.train_bpe(texts, settings.tokenizer.vocab_size)
