"""Loads tokenizers from folders: those written here, and Hugging Face's."""

import dataclasses
import os
import pathlib
from typing import Any

import tokenizers

from jalign.data.templates import template_of
from jalign.data.tokenizer import (
  GENERATION,
  MARK,
  Tokenizer,
  broken,
  read_object,
  wrap,
)
from jalign.errors import UserError


def load(path: str | os.PathLike[str]) -> Tokenizer:
  """Loads a tokenizer from a folder, never from the network.

  Args:
    path: a folder written by `Tokenizer.save`, or one that
      `transformers.AutoTokenizer` reads with a fast tokenizer. A missing
      padding token is replaced by the end of sequence. A response ends with
      the end of turn of the folder's chat template, with one of the ids in its
      generation_config.json, or with the end of sequence.

  Raises:
    UserError: there is no such folder or nothing to load in it, or the
      tokenizer has no fast form, no end of sequence, or an end that isn't in
      the vocabulary.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    raise UserError(
      "there is no such folder.",
      where=str(folder),
      remedy="Give the folder that holds tokenizer.json.",
    )
  config = read_object(folder / "tokenizer_config.json")
  if MARK in config:
    return _load_own(folder, config)
  return _load_hugging_face(folder)


def _load_own(folder: pathlib.Path, config: dict[str, Any]) -> Tokenizer:
  path = folder / "tokenizer.json"
  mark = config[MARK]
  plain = mark.get("plain_specials") if isinstance(mark, dict) else None
  texts = [config.get(f"{name}_token") for name in ("bos", "eos", "pad")]
  if not isinstance(plain, bool) or not all(
    isinstance(text, str | None) for text in texts
  ):
    error = ValueError("a special token, or how to read one, is missing")
    raise broken(folder / "tokenizer_config.json", error)
  try:
    backend = tokenizers.Tokenizer.from_file(str(path))
    "".join(filter(None, texts)).encode()  # a lone surrogate is no text
  except Exception as error:  # the library raises plain Exception
    raise broken(path, error) from None
  backend.encode_special_tokens = plain
  bos, eos, pad = texts
  tokenizer = wrap(backend, bos=bos, eos=eos, pad=pad, where=str(folder))
  # The first of these ids closes responses: it may be the end of a template
  # that isn't in the folder.
  ends = (*_listed(folder, tokenizer.vocab_size), tokenizer.eos_id)
  return dataclasses.replace(tokenizer, end_ids=ends)


def _load_hugging_face(folder: pathlib.Path) -> Tokenizer:
  import transformers  # slow to import; only these folders need it

  try:
    original = transformers.AutoTokenizer.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # whatever a foreign folder makes it raise
    raise broken(folder, error) from None
  if not getattr(original, "is_fast", False):
    raise UserError(
      f"{type(original).__name__} has no fast form.",
      where=str(folder),
      remedy="Convert the tokenizer to a tokenizer.json with transformers.",
    )
  tokenizer = wrap(
    original.backend_tokenizer,
    bos=original.bos_token,
    eos=original.eos_token,
    pad=original.pad_token,
    where=str(folder),
  )
  ends = (tokenizer.eos_id, *_listed(folder, tokenizer.vocab_size))
  template = template_of(original, str(folder))
  return dataclasses.replace(tokenizer, end_ids=ends).ended_by(
    template.end if template else ""
  )


def _listed(folder: pathlib.Path, vocab_size: int) -> list[int]:
  """The ids that end a response according to generation_config.json.

  Raises:
    UserError: a value is no id of the vocabulary.
  """
  path = folder / GENERATION
  value = read_object(path).get("eos_token_id")
  ids = [] if value is None else value if isinstance(value, list) else [value]
  for end_id in ids:
    if type(end_id) is not int or not 0 <= end_id < vocab_size:
      raise UserError(
        f"eos_token_id is {value!r}, and the tokenizer has the ids 0 to"
        f" {vocab_size - 1}.",
        where=str(path),
        remedy="Write the id of the token that ends a response, or a list of"
        " such ids.",
      )
  return ids
