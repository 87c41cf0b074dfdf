"""Turns text into token ids and back: a record around a fast tokenizer."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers

from jalign.data.patterns import check_patterns, panicked
from jalign.errors import UserError
from jalign.files import appearing, write_whole

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"  # of tokenizers trained here
_SPECIAL = (PAD, BOS, EOS)
SMALLEST_VOCAB = 256 + 3  # the bytes and the special tokens

MARK = "jalign"  # key in tokenizer_config.json of folders written here
GENERATION = "generation_config.json"
# Characters before a text that its encoding may depend on.
_CONTEXT = 128
# Texts of which at least one forms no token with hardly any text after it.
_NEUTRAL = ("\n", "a", ".", "0")


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A tokenizer and the ids that the library needs.

  Attributes:
    backend: a `tokenizers.Tokenizer`, with truncation and padding off.
    vocab_size: the largest id plus one, V of a model that takes every id.
    eos_id: id that ends a sequence.
    pad_id: id that fills rows; may equal `eos_id`, as no id is read back.
    bos_id: id that begins a text, or None; `prefix_ids` says if it is written.
    eos_text: how `eos_id` is written in text.
    bos_text: how `bos_id` is written in text, "" without one.
    end_ids: all ids that end a response, scored as a part of it. The first one
      closes a response that has no end yet: the chat template's end of turn, if
      there is one. The others ascend.
    prefix_ids: ids that stand before a plain text: those that the tokenizer's
      own post-processor puts there; `bos_id` for tokenizers trained here.
  """

  backend: tokenizers.Tokenizer
  vocab_size: int
  eos_id: int
  pad_id: int
  bos_id: int | None
  eos_text: str
  bos_text: str = ""
  end_ids: tuple[int, ...] = ()
  prefix_ids: tuple[int, ...] = ()

  def __post_init__(self):
    first, *others = self.end_ids or (self.eos_id,)
    # The other ids ascend, in whatever order they were found.
    ends = (first, *sorted({*others} - {first}))
    object.__setattr__(self, "end_ids", ends)

  def ended_by(self, text: str) -> "Tokenizer":
    """This tokenizer, with responses ending as a chat template ends a turn.

    Args:
      text: `ChatTemplate.end`. If it doesn't begin with a token that was added
        to the vocabulary, as special tokens are, the model writes it in
        ordinary tokens, and the end of sequence closes the response.
    """
    return _ended_by(self, text)

  def split_end(self, text: str) -> tuple[str, int | None]:
    """(response without the end that is written in it, the end's id or None).

    White space and further ends after the first one open the next turn or
    close the text, and are no part of the response.
    """
    content, end_id = text, None
    while True:
      stripped = content.rstrip()
      said = [end for end in self.ends if stripped.endswith(end)]
      if not said:
        return content, end_id
      end = max(said, key=len)
      content, end_id = stripped[: -len(end)], self.ends[end]

  @property
  def plain_specials(self) -> bool:
    """Whether special tokens in texts are plain text; true if trained here."""
    return bool(self.backend.encode_special_tokens)

  @functools.cached_property
  def ends(self) -> dict[str, int]:
    """Text of each id in `end_ids` -> the id."""
    texts = {self.text_of(i): i for i in self.end_ids}
    texts.pop("", None)
    return {self.eos_text: self.eos_id, **texts}

  def text_of(self, token: int) -> str:
    """How a special token is written in text; "" for an id that has no text."""
    return self.backend.id_to_token(token) or ""

  def encode(self, text: str) -> list[int]:
    """Token ids of a text; no special token is added.

    Tokenizers trained here take special tokens that are written in the text
    (say by a user who types "<eos>") as plain text. Tokenizers of a Hugging
    Face folder read them as special tokens, as their chat formats need.

    Raises:
      UserError: a tokenizer of whole words doesn't know a word.
    """
    try:
      return self.backend.encode(text, add_special_tokens=False).ids
    except BaseException as error:  # a tokenizer of whole words meets a new one
      panicked(error)
      raise UserError(
        f"{text[:60]!r} can't be encoded ({self._unknown(text) or error}).",
        where="tokenizer",
        remedy="Use words that it was trained on, or another tokenizer.",
      ) from None

  def encode_after(self, before: str, text: str) -> tuple[list[int], bool]:
    """Token ids of a text that continues another one.

    Encoded by itself, a text may get what only the beginning of a text has, as
    the space that SentencePiece's tokenizers put there. Here the ids are those
    of the two texts encoded as one, after the ids of the first. If a token
    would lie across the border, or the first text's tokens change, the texts
    are encoded apart, since prompts end at the border in sampling.

    Args:
      before: the first text; only its last characters matter.
      text: the second text.

    Returns:
      (ids of the second text, whether the texts had to be encoded apart).
    """
    # Bytes and whole words encode alike wherever they stand.
    if self.plain_specials or not before or not text:
      return self.encode(text), False
    for context in (before[-_CONTEXT:], *_NEUTRAL):
      first = self.encode(context)
      both = self.encode(context + text)
      if both[: len(first)] == first:
        return both[len(first) :], context in _NEUTRAL
    return self.encode(text), True

  def _unknown(self, text: str) -> str:
    """The words of a text that a tokenizer of whole words lacks."""
    if not isinstance(self.backend.model, tokenizers.models.WordLevel):
      return ""
    words = dict.fromkeys(text.split())
    unknown = [w for w in words if self.backend.token_to_id(w) is None]
    return f"unknown: {', '.join(unknown[:5])}" if unknown else ""

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """`encode` of each text, in parallel."""
    texts = list(texts)
    try:
      encodings = self.backend.encode_batch(texts, add_special_tokens=False)
    except BaseException as error:  # `encode` says which of the texts it is
      panicked(error)
      return [self.encode(text) for text in texts]
    return [encoding.ids for encoding in encodings]

  def decode(self, ids: Sequence[int]) -> str:
    """The text of token ids, without special tokens."""
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=True)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a folder that `load` and `transformers.AutoTokenizer` read.

    Args:
      path: folder, made if missing: tokenizer.json, tokenizer_config.json, and
        generation_config.json with `end_ids` (its other entries stay).
    """
    folder = pathlib.Path(path)
    config: dict[str, Any] = {
      "tokenizer_class": "PreTrainedTokenizerFast",
      "eos_token": self.eos_text,
      "pad_token": self.backend.id_to_token(self.pad_id),
      "clean_up_tokenization_spaces": False,
      MARK: {"plain_specials": self.plain_specials},
    }
    if self.bos_id is not None:
      config["bos_token"] = self.bos_text
    more = read_object(folder / GENERATION) | {"eos_token_id": [*self.end_ids]}
    files = {
      "tokenizer.json": self.backend.to_str(True),
      "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
      GENERATION: json.dumps(more, indent=2) + "\n",
    }
    # A folder that exists is whole: a killed process leaves another name.
    with contextlib.ExitStack() as stack:
      if not folder.exists():
        folder = stack.enter_context(appearing(folder, alone=False))
      for name, text in files.items():
        write_whole(folder / name, text.encode())


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
  """Trains a byte-level BPE: every text round-trips, without unknown tokens.

  The result depends on the texts and `vocab_size` alone. Ids 0, 1 and 2 are
  padding, beginning and end of sequence.

  Args:
    texts: texts to learn merges from: prompts and responses.
    vocab_size: at most this many ids; small texts may give fewer.

  Raises:
    UserError: `vocab_size` is below 259: 256 bytes and 3 special tokens.
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
  return wrap(backend, bos=BOS, eos=EOS, pad=PAD, where="")


def train_words(texts: Iterable[str]) -> Tokenizer:
  """Makes a tokenizer of whole words, cut at white space: for small languages.

  Decoding joins words by single spaces. A word that is in none of the texts
  can't be encoded and is an error, since there is no unknown token.

  Args:
    texts: texts whose words all become ids, in alphabetical order after
      padding, beginning and end of sequence.
  """
  words = sorted({word for text in texts for word in text.split()})
  vocab = {word: i for i, word in enumerate(dict.fromkeys([*_SPECIAL, *words]))}
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  backend.add_special_tokens(list(_SPECIAL))
  backend.encode_special_tokens = True
  return wrap(backend, bos=BOS, eos=EOS, pad=PAD, where="")


@functools.lru_cache(maxsize=64)
def _ended_by(tokenizer: Tokenizer, text: str) -> Tokenizer:
  added = tokenizer.backend.get_added_tokens_decoder()
  first = [
    i
    for i, token in added.items()
    # An added token "<" ends no response, whatever follows it in the word.
    if token.content == text
    or (token.special and token.content and text.startswith(token.content))
  ]
  end = max(first, key=lambda i: len(added[i].content), default=None)
  if end is None or tokenizer.plain_specials:
    end = tokenizer.eos_id
  return dataclasses.replace(tokenizer, end_ids=(end, *tokenizer.end_ids))


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file; {} if there is no such file.

  Raises:
    UserError: the file can't be read, or holds no JSON object.
  """
  if not path.is_file():
    return {}
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
      raise TypeError("the file holds no object")
  except (OSError, TypeError, ValueError, RecursionError) as error:
    raise broken(path, error) from None
  return value


def wrap(
  backend: tokenizers.Tokenizer,
  *,
  bos: str | None,
  eos: str | None,
  pad: str | None,
  where: str,
) -> Tokenizer:
  """Makes a `Tokenizer`; raises UserError if it has no end of sequence."""
  check_patterns(backend, where)
  backend.no_truncation()
  backend.no_padding()
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
  if backend.encode_special_tokens and bos and bos_id is not None:
    # Trained here: programs that open the folder elsewhere begin texts alike.
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single=f"{bos} $A", special_tokens=[(bos, bos_id)]
    )
  return Tokenizer(
    backend=backend,
    vocab_size=max(backend.get_vocab(with_added_tokens=True).values()) + 1,
    eos_id=eos_id,
    pad_id=eos_id if pad_id is None else pad_id,
    bos_id=bos_id,
    eos_text=eos,
    bos_text=bos if bos and bos_id is not None else "",
    prefix_ids=_prefix(backend),
  )


def _prefix(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
  """The ids that a tokenizer's post-processor puts before a text."""
  try:
    encoding = backend.encode("a")
  except Exception:  # a tokenizer of whole words lacks this one
    encoding = backend.encode("")
  added = zip(encoding.ids, encoding.special_tokens_mask)
  return tuple(i for i, _ in itertools.takewhile(lambda x: x[1], added))


def broken(path: pathlib.Path, error: Exception) -> UserError:
  """The error for a file or folder that a tokenizer can't be loaded from."""
  return UserError(
    f"no tokenizer can be loaded ({type(error).__name__}: {error}).",
    where=str(path),
    remedy="Give a folder with a whole tokenizer.json (and its "
    "tokenizer_config.json); a config.json in it is read, too.",
  )
