"""Tokenizers: round trips, determinism, folders of jalign and of others."""

import hashlib
import json
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from jalign import data
from jalign.errors import UserError

TEXTS = ["the cat sat on the mat", "a dog, a frog", "Ünïcödé 日本語 🎉"] * 5
BPE = data.train_bpe(TEXTS, 300)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip(text):
  assert BPE.decode(BPE.encode(text)) == text


@pytest.mark.parametrize(
  "text",
  ["", " ", "\n\n\t ", "e\u0301 \u200d \ufeff", "<eos>", "a<pad>b <bos>"],
)
def test_round_trip_edges(text):
  ids = BPE.encode(text)
  assert BPE.decode(ids) == text
  assert not {BPE.pad_id, BPE.bos_id, BPE.eos_id} & set(ids)


def test_decode_skips_specials_and_encode_adds_none():
  ids = BPE.encode("a dog")
  padded = [BPE.bos_id, *ids, BPE.eos_id, BPE.pad_id]
  assert BPE.decode(padded) == "a dog"
  assert BPE.encode_batch(["a dog", "x"]) == [ids, BPE.encode("x")]
  assert max(max(BPE.encode(t)) for t in TEXTS) < BPE.vocab_size


def test_training_is_deterministic():
  digest = lambda t: hashlib.sha256(t.backend.to_str().encode()).hexdigest()
  assert digest(data.train_bpe(TEXTS, 300)) == digest(BPE)
  assert digest(data.train_bpe(TEXTS, 280)) != digest(BPE)
  code = (
    "import hashlib; from jalign.data.tokenizer import train_bpe;"
    f"t = train_bpe({TEXTS!r}, 300).backend.to_str();"
    "print(hashlib.sha256(t.encode()).hexdigest())"
  )
  run = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert run.stdout.strip() == digest(BPE)  # in another process, too


def test_vocab_size():
  assert BPE.vocab_size <= 300
  assert data.train_bpe([], 259).vocab_size == 259
  with pytest.raises(UserError, match="at least 259"):
    data.train_bpe(TEXTS, 258)


def test_save_and_load(tmp_path):
  BPE.save(tmp_path / "new" / "folder")
  loaded = data.load(tmp_path / "new" / "folder")
  text = "the cat <eos> 🎉"
  assert loaded.encode(text) == BPE.encode(text)
  assert loaded.decode(loaded.encode(text)) == text
  for field in ("vocab_size", "eos_id", "pad_id", "bos_id", "eos_text"):
    assert getattr(loaded, field) == getattr(BPE, field)


def _foreign(folder, padding=False, **config):
  """Writes a folder as Hugging Face does, with truncation left on."""
  backend = tokenizers.Tokenizer.from_str(BPE.backend.to_str())
  backend.enable_truncation(4)
  if padding:
    backend.enable_padding(length=9, pad_id=2, pad_token="<eos>")
  backend.save(str(folder / "tokenizer.json"))
  config = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
  (folder / "tokenizer_config.json").write_text(json.dumps(config))
  return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("padding", [False, True])
def test_hugging_face_folder_without_pad(tmp_path, padding):
  tokenizer = data.load(_foreign(tmp_path, padding, eos_token="<eos>"))
  assert tokenizer.pad_id == tokenizer.eos_id == BPE.eos_id
  assert tokenizer.bos_id is None
  text = "the cat sat on the mat and the frog"
  assert tokenizer.encode(text) == BPE.encode(text)  # not cut
  assert tokenizer.encode("a") == BPE.encode("a")  # not padded
  assert tokenizer.decode(tokenizer.encode(text)) == text
  assert tokenizer.encode("a<eos>")[-1] == tokenizer.eos_id
  tokenizer.save(tmp_path / "copy")
  again = data.load(tmp_path / "copy")
  assert (again.pad_id, again.eos_id, again.bos_id) == (2, 2, None)
  assert again.encode("a<eos>") == tokenizer.encode("a<eos>")


@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_our_folder(tmp_path):
  import transformers

  BPE.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(
    str(tmp_path), local_files_only=True
  )
  assert theirs.eos_token_id == BPE.eos_id
  assert theirs.encode("a dog", add_special_tokens=False) == BPE.encode("a dog")


@pytest.mark.filterwarnings("ignore")
def test_load_errors(tmp_path):
  with pytest.raises(UserError, match="no such folder"):
    data.load(tmp_path / "none")
  with pytest.raises(UserError, match="end-of-sequence.*eos_token"):
    data.load(_foreign(tmp_path, bos_token="<bos>"))
  empty = tmp_path / "empty"
  empty.mkdir()
  with pytest.raises(UserError, match="no tokenizer can be loaded"):
    data.load(empty)
  BPE.save(tmp_path / "broken")
  (tmp_path / "broken" / "tokenizer.json").write_text("{")
  with pytest.raises(UserError, match="broken.*whole tokenizer.json"):
    data.load(tmp_path / "broken")


def test_a_batch_with_an_unknown_word():
  words = data.train_words(["anna sings"])
  assert words.encode_batch(("anna", "sings anna")) == [[3], [4, 3]]
  with pytest.raises(UserError, match="'anna xyzzy' can't be encoded"):
    words.encode_batch(["anna", "anna xyzzy"])


@pytest.mark.filterwarnings("ignore")
def test_our_folder_through_transformers(tmp_path):
  """Truncation and padding that were saved there have no effect here."""
  import transformers

  BPE.save(tmp_path / "ours")
  theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "ours"))
  theirs("the cat", truncation=True, max_length=4, padding="max_length")
  theirs.save_pretrained(str(tmp_path / "theirs"))
  saved = json.loads((tmp_path / "theirs" / "tokenizer.json").read_text())
  assert saved["truncation"] and saved["padding"]
  loaded = data.load(tmp_path / "theirs")
  for text in ("the cat sat on the mat and the frog", "a"):
    assert loaded.encode(text) == BPE.encode(text)
  assert loaded.end_ids == BPE.end_ids
  assert loaded.plain_specials


@pytest.mark.filterwarnings("ignore")
def test_texts_begin_as_transformers_begins_them(tmp_path):
  import transformers

  record = data.PromptRecord("a dog", "f:1", "g")
  words = data.train_words(["a dog"])
  for name, own in (("bpe", BPE), ("words", words)):
    own.save(tmp_path / name)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / name))
    (prompt,) = data.encode_prompts([record], own)
    assert prompt.ids.tolist() == theirs("a dog").input_ids
    assert prompt.ids[0] == own.bos_id
  # Earlier folders had no post-processor, but their texts had a beginning.
  path = tmp_path / "bpe" / "tokenizer.json"
  path.write_text(
    json.dumps(json.loads(path.read_text()) | {"post_processor": None})
  )
  old = data.load(tmp_path / "bpe")
  assert old.prefix_ids == BPE.prefix_ids == (BPE.bos_id,)
  assert old.backend.to_str() == BPE.backend.to_str()
