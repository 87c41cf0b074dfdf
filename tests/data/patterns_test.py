"""Regular expressions in tokenizers from unknown sources."""

import pytest
import tokenizers

from jalign import data
from jalign.data.patterns import repeats_repetitions
from jalign.errors import UserError
from tests.data import chat_tokenizer

# Patterns of GPT-2, GPT-4, GPT-4o, Qwen 2, DeepSeek V3, CLIP, BLOOM, Kimi K2
# and others.
PUBLISHED = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
  r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
  r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
  r"+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
  r"|\s*[\r\n]+|\s+(?!\S)|\s+",
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
  r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
  r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
  r"<\|startoftext\|>|<\|endoftext\|>|'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
  r" ?[^(\s|[.,!?…。，、।۔،])]+",
  r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}&&[^\p{Han}]]*[\p{Ll}&&[^\p{Han}]]+",
  r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
  r"(?:\p{L}\p{M}*)+|(?:\r?\n)+|(ab){2,3}|(?>a|b)+|(?:a+)?|(a|b){1,3}",
  r"",
)
ENDLESS = (
  r"(a+)+$",
  r"(a|a)*$",
  r"(?:a*)*b",
  r"x|((a?b+)c?)*",
  r"((a|b)c)+",
  r"([a-z]+)*x",
  r"(?i:\w+\s?)+$",
  r"(\p{L}+)+",
  r"(?:\p{L}*\p{M}*)+",
  r"(\p{L}\p{L}*)+",
  r"(a+){2,}",
  r"(a+){20}",
  r"(\)|[)]+)*",
  r"([\]a]+)+",
  r"((?:a+))+?",
)


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_patterns_are_taken(pattern):
  tokenizers.Regex(pattern)
  assert not repeats_repetitions(pattern)


@pytest.mark.parametrize("pattern", ENDLESS)
def test_patterns_that_try_for_years(pattern):
  tokenizers.Regex(pattern)
  assert repeats_repetitions(pattern)


def _folder(path, pattern):
  chat_tokenizer.write(path)
  file = path / "tokenizer.json"
  backend = tokenizers.Tokenizer.from_file(str(file))
  split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
    [split, backend.pre_tokenizer]
  )
  backend.save(str(file))
  return path


def test_a_folder_with_such_a_pattern(tmp_path):
  _folder(tmp_path, r"(a+)+$")
  with pytest.raises(UserError, match=r"\(a\+\)\+\$.*tokenizer\.json"):
    data.load(tmp_path)


def test_a_library_that_gives_up_is_one_paragraph(tmp_path, capfd):
  """Patterns that need polynomially many tries aren't recognised."""
  tokenizer = data.load(_folder(tmp_path, "a*a*a*a*a*[bc]"))
  with pytest.raises(UserError, match="can't be encoded"):
    tokenizer.encode_batch(["fine", "a" * 400 + "!c"])
