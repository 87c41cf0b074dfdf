"""Records, tokenizer and encoded data of a run and of each of its stages."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jalign import data, sharding
from jalign.errors import UserError
from jalign.experiment import folder as folders
from jalign.experiment.dataset import Dataset
from jalign.experiment.settings import DataSettings, Settings

_TEXTS = ("prompt", "chosen", "rejected", "response")


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
  """The data of a run.

  Attributes:
    tokenizer: loaded or trained.
    main: what is held out and judged.
    stages: what each stage is trained on, by its name.
    lines: what was read, held out and cut, for people.
  """

  tokenizer: data.Tokenizer
  main: Dataset
  stages: dict[str, Dataset]
  lines: tuple[str, ...]

  def summary(self) -> str:
    """A few lines on what was read, held out and cut."""
    return "\n".join(f"[data] {line}" for line in self.lines)

  def save(self, folder: pathlib.Path) -> None:
    """Keeps tokenizer/ and data.json in the folder."""
    self.tokenizer.save(folder / "tokenizer")
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
    """The same with all pairs of another file held out."""
    records, reports = _read(settings.data, path, settings.tokenizer.path)
    held_out, cut = data.encode_pairs(
      records, self.tokenizer, _limits(settings.data)
    )
    main = dataclasses.replace(
      self.main,
      held_out=held_out,
      eval_prompts=_prompts(records, self.tokenizer, settings.data),
      group_of={r.source: r.group for r in records},
    )
    return dataclasses.replace(
      self, main=main, lines=(*(r.summary() for r in reports), cut.summary())
    )


def prepare(
  settings: Settings, folder: pathlib.Path, base: pathlib.Path | None
) -> Prepared:
  """Reads, splits, tokenises; writes nothing.

  Args:
    settings: of the run.
    folder: of the run, whose tokenizer is used if there is one.
    base: run whose tokenizer to use, or None.

  Raises:
    UserError: bad data, or settings that contradict each other.
  """
  wanted = [settings.data, *(stage.data for stage in settings.stages)]
  bar = lambda items, what: tqdm(
    items, desc=what, disable=None, unit="source", leave=False
  )
  read = {
    each: _split(each, settings.tokenizer.path)
    for each in bar(dict.fromkeys(wanted), "reading data")
  }
  # Merges are learnt from training texts alone; the words of a small language
  # are all listed, or held-out ones could not be encoded.
  parts = slice(2 if settings.tokenizer.kind == "words" else 1)
  texts = itertools.chain.from_iterable(
    _texts(part) for each in read.values() for part in each[parts]
  )
  tokenizer = _tokenizer(settings, folder, base, texts)
  datasets = {
    each: _encode(each, settings.tokenizer.path, tokenizer, *parts)
    for each, parts in bar(read.items(), "encoding data")
  }
  return Prepared(
    tokenizer,
    datasets[settings.data],
    {stage.name: datasets[stage.data] for stage in settings.stages},
    (
      *itertools.chain.from_iterable(d.lines for d in datasets.values()),
      f"tokenizer of {tokenizer.vocab_size} tokens",
    ),
  )


def _split(settings: DataSettings, folder: str):
  """(training records, held-out records, reports) of one source."""
  records, reports = _read(settings, settings.path, folder)
  parts = data.split(records, settings.eval_fraction, settings.split_seed)
  return *parts, reports


def _encode(
  settings: DataSettings,
  folder: str,
  tokenizer: data.Tokenizer,
  train: list[Any],
  held_out: list[Any],
  reports: list[data.Report],
) -> Dataset:
  template = _template(settings, folder)
  conversations = lambda records, tokenizer, limits: data.encode_conversations(
    records, tokenizer, template or data.PLAIN_CHAT, limits
  )
  encoders: dict[type, tuple[str, Any]] = {
    data.PreferenceRecord: ("pairs", data.encode_pairs),
    data.DemonstrationRecord: ("sequences", data.encode_demonstrations),
    data.ConversationRecord: ("sequences", conversations),
    data.PromptRecord: ("prompts", None),
  }
  record = type(train[0])
  if record not in encoders:
    raise UserError(
      f"no loss takes {record.__name__}s yet.",
      where="config.data.source",
      remedy="Convert them by data.convert, to one of"
      f" {', '.join(data.CONVERSIONS)}, or choose another source.",
    )
  kind, encode = encoders[record]
  groups = len({r.group for r in held_out})
  noun = reports[-1].noun
  lines = [
    *(report.summary() for report in reports),
    f"{len(train)} {noun} to train on, {len(held_out)} held out"
    f" ({groups} groups of prompts, none in both)",
  ]
  facts: dict[str, Any] = {"source": reports[0].to_dict()}
  if len(reports) > 1:
    facts["convert"] = reports[1].to_dict()
  parts: list[list[Any]] = [[], []]
  if encode is not None:
    for i, (name, records) in enumerate((("train", train), ("eval", held_out))):
      parts[i], cut = encode(records, tokenizer, _limits(settings))
      facts[name] = cut.to_dict()
      place = {"train": "training", "eval": "held out"}[name]
      lines.append(f"{place}: {cut.summary()}")
  has_prompts = hasattr(train[0], "prompt")
  prompts = lambda records: (
    _prompts(records, tokenizer, settings) if has_prompts else []
  )
  return Dataset(
    kind=kind,
    train=parts[0],
    held_out=parts[1],
    train_prompts=prompts(train),
    eval_prompts=prompts(held_out),
    group_of={r.source: r.group for r in (*train, *held_out)},
    buckets=settings.buckets,
    pad_id=tokenizer.pad_id,
    facts=facts,
    lines=tuple(lines),
  )


def _texts(records: Sequence[Any]) -> Iterator[str]:
  """Texts to train a tokenizer on."""
  for record in records:
    for field in _TEXTS:
      if hasattr(record, field):
        yield getattr(record, field)
    for message in getattr(record, "messages", ()):
      yield message["content"]


def _template(settings: DataSettings, folder: str):
  """The chat template that a config names, None for none."""
  if settings.template == "plain":
    return data.PLAIN_CHAT
  if settings.template == "tokenizer":
    if not folder:
      raise UserError(
        "names no folder, and data.template takes its template.",
        where="config.tokenizer.path",
        remedy="Name one, or set data.template to 'plain' or a file.",
      )
    return data.load_template(folder)
  return data.load_template(settings.template) if settings.template else None


def _read(settings: DataSettings, path: str, folder: str):
  """(records, reports: of the reading and, if there is one, the conversion)."""
  options = {
    "on_error": settings.on_error,
    "data_dir": settings.data_dir,
    "template": _template(settings, folder),
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
        e.problem, where="config.data.convert", remedy=e.remedy
      ) from e
    reports += [more] if more else []
  return records, reports


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
  if base is not None:
    if settings.tokenizer.path:
      raise UserError(
        "init_from gives the tokenizer.",
        where="config.tokenizer.path",
        remedy="Leave it empty.",
      )
    return data.load(base / "tokenizer")
  if own.exists():
    return data.load(own)
  if settings.tokenizer.path:
    return data.load(settings.tokenizer.path)
  if settings.tokenizer.kind == "words":
    return data.train_words(texts)
  return data.train_bpe(texts, settings.tokenizer.vocab_size)


def place(record: Any, mesh: jax.sharding.Mesh) -> Any:
  """Puts this process's rows on the mesh, split over its batch axes."""
  layout = sharding.batch_sharding(mesh)
  ways = sharding.axis_size(mesh, sharding.BATCH_AXES)

  def one(x):
    rows = x.shape[0] * jax.process_count()
    at = layout if rows % ways == 0 else sharding.replicated(mesh)
    return jax.make_array_from_process_local_data(at, np.asarray(x))

  return jax.tree.map(one, record)
