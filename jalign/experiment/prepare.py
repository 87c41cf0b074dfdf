"""Records, tokenizer and encoded pairs of a run."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jalign import data, sharding
from jalign.errors import UserError
from jalign.experiment import folder as folders
from jalign.experiment.settings import Settings

_KINDS = {
  "pairs": (data.collate_pairs, data.pair_length),
  "sequences": (data.collate_chosen, data.chosen_length),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
  """The data of a run.

  Attributes:
    tokenizer: loaded or trained.
    train: encoded training pairs.
    held_out: encoded held-out pairs.
    train_prompts: different training prompts.
    eval_prompts: different held-out prompts.
    group_of: source of a record -> its split key.
    buckets: padded lengths, ascending.
    facts: what data.json says.
    lines: the same for people.
  """

  tokenizer: data.Tokenizer
  train: list[data.EncodedPair]
  held_out: list[data.EncodedPair]
  train_prompts: list[data.EncodedPrompt]
  eval_prompts: list[data.EncodedPrompt]
  group_of: dict[str, str]
  buckets: tuple[int, ...]
  facts: dict[str, Any]
  lines: tuple[str, ...]

  def summary(self) -> str:
    """A few lines on what was read, held out and cut."""
    return "\n".join(f"[data] {line}" for line in self.lines)

  def save(self, folder: pathlib.Path) -> None:
    """Keeps tokenizer/ and data.json in the folder."""
    self.tokenizer.save(folder / "tokenizer")
    folders.write_json(folder / "data.json", self.facts)

  def pairs(self, part: str) -> list[data.EncodedPair]:
    """The "train" or the "eval" part."""
    return {"train": self.train, "eval": self.held_out}[part]

  def lengths(self, kind: str, part: str) -> list[int]:
    """Tokens of each example of a part, as batches of a kind have them."""
    return [_KINDS[kind][1](pair) for pair in self.pairs(part)]

  def loader(
    self,
    kind: str,
    part: str,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    shuffle: bool = True,
  ) -> data.Loader:
    """Batches of "pairs" or of chosen "sequences"."""
    collate, length_of = _KINDS[kind]
    return data.make_loader(
      self.pairs(part),
      functools.partial(collate, pad_id=self.tokenizer.pad_id),
      batch_size=batch_size,
      buckets=self.buckets,
      seed=seed,
      epochs=epochs,
      shuffle=shuffle,
      length_of=length_of,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def prompt_loader(self, batch_size: int, *, seed: int = 0) -> data.Loader:
    """Batches of training prompts, all of one width."""
    return data.make_loader(
      self.train_prompts,
      functools.partial(data.collate_prompts, pad_id=self.tokenizer.pad_id),
      batch_size=batch_size,
      buckets=(max(map(data.prompt_length, self.train_prompts)),),
      seed=seed,
      length_of=data.prompt_length,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def examples(self, part: str) -> Iterable[tuple]:
    """Source and token ids of each pair, for a fingerprint."""
    for p in self.pairs(part):
      ids = (p.prompt.tolist(), p.chosen.tolist(), p.rejected.tolist())
      yield (p.source.replace("\\", "/").rpartition("/")[2], *ids)

  def groups(self, sources: Sequence[str]) -> list[str]:
    """The split key of each source: the cluster of an interval."""
    return [self.group_of[source] for source in sources]

  def with_pairs(self, path: str, settings: Settings) -> "Prepared":
    """The same with all pairs of another file held out."""
    records, report = _read(settings, path)
    held_out, cut = data.encode_pairs(
      records, self.tokenizer, _limits(settings)
    )
    return dataclasses.replace(
      self,
      held_out=held_out,
      eval_prompts=_prompts(records, self.tokenizer, settings),
      group_of={r.source: r.group for r in records},
      lines=(report.summary(), cut.summary()),
    )

  def sample_prompts(self, count: int) -> list[data.EncodedPrompt]:
    """The first held-out prompts, as many as there are."""
    return self.eval_prompts[:count]


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
  records, report = _read(settings, settings.data.path)
  train, held_out = data.split(
    records, settings.data.eval_fraction, settings.data.split_seed
  )
  tokenizer = _tokenizer(settings, folder, base, train)
  limits = _limits(settings)
  train_pairs, train_cut = data.encode_pairs(train, tokenizer, limits)
  eval_pairs, eval_cut = data.encode_pairs(held_out, tokenizer, limits)
  lines = (
    report.summary(),
    f"{len(train)} pairs to train on, {len(held_out)} held out"
    f" ({len({r.group for r in held_out})} groups of prompts, none in both)",
    f"tokenizer of {tokenizer.vocab_size} tokens",
    f"training: {train_cut.summary()}",
    f"held out: {eval_cut.summary()}",
  )
  facts: dict[str, Any] = {
    "source": report.to_dict(),
    "train": train_cut.to_dict(),
    "eval": eval_cut.to_dict(),
    "vocab_size": tokenizer.vocab_size,
  }
  return Prepared(
    tokenizer=tokenizer,
    train=train_pairs,
    held_out=eval_pairs,
    train_prompts=_prompts(train, tokenizer, settings),
    eval_prompts=_prompts(held_out, tokenizer, settings),
    group_of={r.source: r.group for r in records},
    buckets=settings.data.buckets,
    facts=facts,
    lines=lines,
  )


def _read(settings, path):
  d = settings.data
  options = {"on_error": d.on_error} if d.on_error else {}
  return data.read(d.source, path, **options)


def _limits(settings) -> data.Limits:
  d = settings.data
  return data.Limits(
    max_tokens=max(d.buckets),
    max_prompt_tokens=d.max_prompt_tokens,
    max_response_tokens=d.max_response_tokens,
  )


def _prompts(records, tokenizer, settings) -> list[data.EncodedPrompt]:
  return data.encode_prompts(
    data.unique_prompts(records), tokenizer, settings.data.max_prompt_tokens
  )


def _tokenizer(settings, folder, base, train) -> data.Tokenizer:
  own = folder / "tokenizer"
  if base is not None:
    if settings.tokenizer.path:
      raise UserError(
        "init_from gives the tokenizer.",
        where="config.tokenizer.path",
        remedy="Leave it empty.",
      )
    tokenizer = data.load(base / "tokenizer")
  elif own.exists():
    return data.load(own)
  elif settings.tokenizer.path:
    tokenizer = data.load(settings.tokenizer.path)
  else:
    texts = (t for r in train for t in (r.prompt, r.chosen, r.rejected))
    tokenizer = data.train_bpe(texts, settings.tokenizer.vocab_size)
  return tokenizer


def place(record: Any, mesh: jax.sharding.Mesh) -> Any:
  """Puts this process's rows on the mesh, split over its batch axes."""
  layout = sharding.batch_sharding(mesh)
  ways = sharding.axis_size(mesh, sharding.BATCH_AXES)

  def one(x):
    rows = x.shape[0] * jax.process_count()
    at = layout if rows % ways == 0 else sharding.replicated(mesh)
    return jax.make_array_from_process_local_data(at, np.asarray(x))

  return jax.tree.map(one, record)
