"""Text to token ids and back: one small record around a fast tokenizer."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers

from jalign.errors import UserError
from jalign.files import write_whole

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"  # of the tokenizers trained here
_SPECIAL = (PAD, BOS, EOS)
SMALLEST_VOCAB = 256 + 3  # bytes and the three above

_MARK = "jalign"  # key in tokenizer_config.json of the folders written here


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A tokenizer and the ids that the library needs.

  Attributes:
    backend: of the `tokenizers` library; truncation and padding are off.
    vocab_size: the largest id plus one, V of a model that takes every id.
    eos_id: ends a response; scored.
    pad_id: fills rows; may equal `eos_id`, as nothing is inferred from ids.
    bos_id: begins a prompt; None for tokenizers without one.
    eos_text: how `eos_id` is written in text.
    bos_text: how `bos_id` is written in text, "" without one.
  """

  backend: tokenizers.Tokenizer
  vocab_size: int
  eos_id: int
  pad_id: int
  bos_id: int | None
  eos_text: str
  bos_text: str = ""

  def encode(self, text: str) -> list[int]:
    """Token ids of a text; no special token is added.

    Tokenizers trained here take special tokens that are written in the text
    (a user who types "<eos>") as plain text. Those of a Hugging Face folder
    read them as special tokens, as their chat formats need.
    """
    try:
      return self.backend.encode(text, add_special_tokens=False).ids
    except Exception as error:  # a tokenizer of whole words meets a new one
      raise UserError(
        f"{text[:60]!r} can't be encoded ({self._unknown(text) or error}).",
        where="tokenizer",
        remedy="Use words that it was trained on, or another tokenizer.",
      ) from None

  def _unknown(self, text: str) -> str:
    """The words of a text that a tokenizer of whole words lacks."""
    if not isinstance(self.backend.model, tokenizers.models.WordLevel):
      return ""
    words = dict.fromkeys(text.split())
    found = [w for w in words if self.backend.token_to_id(w) is None]
    return f"unknown: {', '.join(found[:5])}" if found else ""

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """`encode` of each text, in parallel."""
    texts = list(texts)
    try:
      found = self.backend.encode_batch(texts, add_special_tokens=False)
    except Exception:  # one by one, `encode` says which text it is
      return [self.encode(text) for text in texts]
    return [one.ids for one in found]

  def decode(self, ids: Sequence[int]) -> str:
    """The text of token ids; special tokens are skipped."""
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=True)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a folder that `load` and `transformers.AutoTokenizer` read.

    Args:
      path: folder, made if missing: tokenizer.json, tokenizer_config.json.
    """
    folder = pathlib.Path(path)
    config: dict[str, Any] = {
      "tokenizer_class": "PreTrainedTokenizerFast",
      "eos_token": self.eos_text,
      "pad_token": self.backend.id_to_token(self.pad_id),
      "clean_up_tokenization_spaces": False,
      _MARK: {"plain_specials": bool(self.backend.encode_special_tokens)},
    }
    if self.bos_id is not None:
      config["bos_token"] = self.bos_text
    # A folder that is there is whole: what is killed half-way leaves another.
    target = folder
    if not folder.exists():
      target = folder.with_name(folder.name + ".partial")
      shutil.rmtree(target, ignore_errors=True)
    write_whole(target / "tokenizer.json", self.backend.to_str(True).encode())
    text = json.dumps(config, indent=2) + "\n"
    write_whole(target / "tokenizer_config.json", text.encode())
    if target != folder:
      target.replace(folder)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
  """Trains a byte-level BPE: every text round-trips, no unknown token.

  The result depends on the texts and `vocab_size` alone. Ids 0, 1 and 2 are
  padding, beginning and end of sequence.

  Args:
    texts: what to learn merges from: prompts and responses.
    vocab_size: at most this many ids; small texts may give fewer.

  Raises:
    UserError: `vocab_size` below 259, which holds the bytes and the three
      special tokens.
  """
  if vocab_size < SMALLEST_VOCAB:
    raise UserError(
      f"vocab_size is {vocab_size}.",
      remedy=f"A byte-level BPE needs at least {SMALLEST_VOCAB}: 256 bytes "
      "and 3 special tokens.",
    )
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  backend.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=list(_SPECIAL),
    initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  backend.train_from_iterator(texts, trainer)
  backend.encode_special_tokens = True
  return _wrap(backend, bos=BOS, eos=EOS, pad=PAD, where="")


def train_words(texts: Iterable[str]) -> Tokenizer:
  """A tokenizer of whole words, cut at white space: for small languages.

  Decoding joins words by single spaces. A word that is in none of the texts
  can't be encoded and is an error: there is no unknown token.

  Args:
    texts: every word of them becomes an id, in alphabetical order after
      padding, beginning and end of sequence.
  """
  words = sorted({word for text in texts for word in text.split()})
  vocab = {word: i for i, word in enumerate(dict.fromkeys([*_SPECIAL, *words]))}
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  backend.add_special_tokens(list(_SPECIAL))
  backend.encode_special_tokens = True
  return _wrap(backend, bos=BOS, eos=EOS, pad=PAD, where="")


def load(path: str | os.PathLike[str]) -> Tokenizer:
  """Loads a tokenizer from a folder; never from the network.

  Args:
    path: a folder written by `Tokenizer.save`, or any that
      `transformers.AutoTokenizer` reads with a fast tokenizer. A missing
      padding token is replaced by the end of sequence.

  Raises:
    UserError: no such folder, nothing to load in it, no fast form, or no end
      of sequence.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    raise UserError(
      "there is no such folder.",
      where=str(folder),
      remedy="Give the folder that holds tokenizer.json.",
    )
  config = _read_config(folder)
  if _MARK in config:
    return _load_own(folder, config)
  return _load_hugging_face(folder)


def _read_config(folder: pathlib.Path) -> dict[str, Any]:
  """tokenizer_config.json, {} where there is none."""
  path = folder / "tokenizer_config.json"
  if not path.is_file():
    return {}
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise _broken(path, error) from None
  return config if isinstance(config, dict) else {}


def _load_own(folder: pathlib.Path, config: dict[str, Any]) -> Tokenizer:
  path = folder / "tokenizer.json"
  mark = config[_MARK]
  plain = mark.get("plain_specials") if isinstance(mark, dict) else None
  texts = [config.get(f"{name}_token") for name in ("bos", "eos", "pad")]
  if not isinstance(plain, bool) or not all(
    isinstance(text, str | None) for text in texts
  ):
    error = ValueError("a special token or how to read it is missing")
    raise _broken(folder / "tokenizer_config.json", error)
  try:
    backend = tokenizers.Tokenizer.from_file(str(path))
    "".join(filter(None, texts)).encode()  # a lone surrogate is no text
  except Exception as error:  # the library raises plain Exception
    raise _broken(path, error) from None
  backend.encode_special_tokens = plain
  bos, eos, pad = texts
  return _wrap(backend, bos=bos, eos=eos, pad=pad, where=str(folder))


def _load_hugging_face(folder: pathlib.Path) -> Tokenizer:
  import transformers  # slow to import; only these folders need it

  try:
    found = transformers.AutoTokenizer.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # whatever a foreign folder makes it raise
    raise _broken(folder, error) from None
  if not getattr(found, "is_fast", False):
    raise UserError(
      f"{type(found).__name__} has no fast form.",
      where=str(folder),
      remedy="Convert it to a tokenizer.json with transformers.",
    )
  backend = found.backend_tokenizer
  backend.no_truncation()
  backend.no_padding()
  return _wrap(
    backend,
    bos=found.bos_token,
    eos=found.eos_token,
    pad=found.pad_token,
    where=str(folder),
  )


def _wrap(
  backend: tokenizers.Tokenizer,
  *,
  bos: str | None,
  eos: str | None,
  pad: str | None,
  where: str,
) -> Tokenizer:
  """The record, from the texts of the special tokens."""
  eos_id = backend.token_to_id(eos) if eos else None
  if eos is None or eos_id is None:
    raise UserError(
      "the tokenizer has no end-of-sequence token.",
      where=where,
      remedy='Name one of its tokens as "eos_token" in tokenizer_config.json; '
      "a response could not end without it.",
    )
  pad_id = backend.token_to_id(pad) if pad else None
  bos_id = backend.token_to_id(bos) if bos else None
  return Tokenizer(
    backend=backend,
    vocab_size=max(backend.get_vocab(with_added_tokens=True).values()) + 1,
    eos_id=eos_id,
    pad_id=eos_id if pad_id is None else pad_id,
    bos_id=bos_id,
    eos_text=eos,
    bos_text=bos if bos and bos_id is not None else "",
  )


def _broken(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(
    f"no tokenizer can be loaded ({type(error).__name__}: {error}).",
    where=str(path),
    remedy="Give a folder with a whole tokenizer.json (and its "
    "tokenizer_config.json).",
  )
