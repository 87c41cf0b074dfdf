"""Ends of responses: from templates, generation_config.json, tokenizers."""

import json

import pytest
import transformers

from jalign import data
from jalign.errors import UserError
from tests.data import families

WIDE = data.Limits(max_tokens=1000)
ROW = {
  "prompt": [{"role": "user", "content": "hi"}],
  "chosen": [{"role": "assistant", "content": "y o"}],
  "rejected": [{"role": "assistant", "content": "n"}],
}
TALK = [
  {"role": "user", "content": "a"},
  {"role": "assistant", "content": "bc"},
  {"role": "user", "content": "d"},
  {"role": "assistant", "content": "e"},
]


def _texts(tokenizer, ids):
  return [tokenizer.backend.id_to_token(int(i)) for i in ids]


def _ends(tokenizer):
  return _texts(tokenizer, tokenizer.end_ids)


def _pair(tmp_path, template, tokenizer):
  path = tmp_path / "pairs.jsonl"
  path.write_text(json.dumps(ROW) + "\n")
  records, _ = data.read_pairs(path, template=template)
  (pair,), _ = data.encode_pairs(records, tokenizer, WIDE)
  return pair


@pytest.mark.parametrize(
  "family, generation, ends",
  [
    (families.byte_level, None, ["<|im_end|>"]),
    (families.gemma, None, ["<end_of_turn>", "<eos>"]),
    (families.gemma, "<eos>", ["<end_of_turn>", "<eos>"]),
    (
      families.gemma,
      ("<eos>", "<start_of_turn>"),
      ["<end_of_turn>", "<eos>", "<start_of_turn>"],
    ),
    (families.phi, ("<|end|>",), ["<|end|>", "<|endoftext|>"]),
  ],
)
def test_where_ends_come_from(tmp_path, family, generation, ends):
  tokenizer = data.load(family(tmp_path / "a", generation=generation))
  assert _ends(tokenizer) == ends
  tokenizer.save(tmp_path / "b")
  again = data.load(tmp_path / "b")
  assert again.end_ids == tokenizer.end_ids
  again.save(tmp_path / "b")
  assert data.load(tmp_path / "b").end_ids == tokenizer.end_ids


def test_a_template_of_another_family_leaves_it_to_eos(tmp_path):
  """The template's end is plain text to this tokenizer, also in its folder."""
  theirs = data.load_template(families.CHATML)
  folder = families.gemma(tmp_path / "a", generation=("<end_of_turn>",))
  first = data.load(folder).ended_by(theirs.end)
  assert _ends(first) == ["<eos>", "<end_of_turn>"]
  (folder / "chat_template.jinja").write_text(theirs.text)
  assert data.load(folder).ended_by(theirs.end).end_ids == first.end_ids
  assert data.load(folder).end_ids == first.end_ids


def test_ends_without_a_template(tmp_path):
  folder = families.gemma(tmp_path / "a", None, generation=["<end_of_turn>"])
  tokenizer = data.load(folder)
  assert _ends(tokenizer) == ["<eos>", "<end_of_turn>"]
  # A template that is added later decides what closes a turn.
  assert _ends(tokenizer.ended_by("<end_of_turn>")) == [
    "<end_of_turn>",
    "<eos>",
  ]
  assert tokenizer.ended_by("the end").end_ids == tokenizer.end_ids
  tokenizer = data.train_bpe(["ab"], 260)
  assert tokenizer.end_ids == (tokenizer.eos_id,)
  assert tokenizer.ended_by("<bos>").end_ids == tokenizer.end_ids


def test_the_order_is_the_same_after_a_round_trip(tmp_path):
  """The order holds with a chat template of another end, as a run keeps it."""
  first = data.load(families.gemma(tmp_path / "a")).ended_by("<start_of_turn>")
  folder = families.gemma(tmp_path / "b", families.CHATML)
  path = folder / "generation_config.json"
  path.write_text(json.dumps({"eos_token_id": [*first.end_ids]}))
  again = data.load(folder).ended_by("<start_of_turn>")
  assert again.end_ids == first.end_ids
  assert _ends(first) == ["<start_of_turn>", "<eos>", "<end_of_turn>"]


@pytest.mark.parametrize("value", [9999, -1, "2", [2, None], [True], 1.0, {}])
def test_ends_outside_of_the_vocabulary(tmp_path, value):
  folder = families.gemma(tmp_path / "a")
  path = folder / "generation_config.json"
  path.write_text(json.dumps({"eos_token_id": value}))
  with pytest.raises(UserError, match="eos_token_id is .* has the ids 0 to 2"):
    data.load(folder)
  for text in ("{", "[2]", "null"):
    path.write_text(text)
    with pytest.raises(UserError, match="generation_config.json"):
      data.load(folder)


def test_saving_keeps_other_settings_of_generation(tmp_path):
  path = tmp_path / "generation_config.json"
  path.write_text(json.dumps({"temperature": 0.6, "eos_token_id": 1}))
  data.load(families.gemma(tmp_path / "a")).save(tmp_path)
  settings = json.loads(path.read_text())
  assert settings == {"temperature": 0.6, "eos_token_id": [259, 257]}


@pytest.mark.parametrize(
  "family, end",
  [
    (families.byte_level, "<|im_end|>"),
    (families.gemma, "<end_of_turn>"),
    (families.phi, "<|end|>"),
  ],
)
def test_responses_end_with_the_turn(tmp_path, family, end):
  folder = family(tmp_path / "chat")
  tokenizer = data.load(folder)
  file = tmp_path / "chat.jinja"
  file.write_text((folder / "chat_template.jinja").read_text())
  sources = (
    data.load_template(folder),
    data.load_template(file, tokens_of=folder),
    data.load_template(file.read_text(), tokens_of=folder),
  )
  for template in sources:
    pair = _pair(tmp_path, template, tokenizer)
    assert _texts(tokenizer, pair.chosen) == ["y", "Ġ", "o", end]
    assert _texts(tokenizer, pair.rejected) == ["n", end]
    assert template.end == end
  # A folder without the template, which is given apart, has the same ends.
  bare = data.load(family(tmp_path / "bare", None))
  assert bare.ended_by(sources[1].end).end_ids == tokenizer.end_ids


def test_an_added_token_that_only_begins_the_end(tmp_path):
  folder = families.gemma(tmp_path, None)
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  theirs.add_tokens(["<", "<done>"])
  theirs.save_pretrained(str(folder))
  tokenizer = data.load(folder)
  assert _ends(tokenizer.ended_by("<|end|>")) == ["<eos>"]
  assert _ends(tokenizer.ended_by("<done>")) == ["<done>", "<eos>"]
  both = tokenizer.ended_by("<end_of_turn><eos>")
  assert _ends(both) == ["<end_of_turn>", "<eos>"]


def test_a_turn_that_the_next_one_ends(tmp_path):
  """As for GLM, generation stops at the mark of the user's next turn."""
  template = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
  )
  folder = families.phi(
    tmp_path, template, generation=("<|endoftext|>", "<|user|>")
  )
  tokenizer = data.load(folder)
  record = data.ConversationRecord(tuple(TALK), "f.jsonl:1", "a")
  (example,), _ = data.encode_conversations(
    [record], tokenizer, data.load_template(folder), WIDE
  )
  scored = _texts(tokenizer, example.ids[example.mask])
  assert scored == ["b", "c", "<|user|>", "e", "<|endoftext|>"]


def test_more_than_one_end_in_the_text():
  bpe = data.train_bpe(["ab"], 260)
  assert bpe.split_end("a") == ("a", None)
  assert bpe.split_end("a \n") == ("a \n", None)
  assert bpe.split_end("a <eos>") == ("a ", bpe.eos_id)
  assert bpe.split_end("a<eos>\n <eos>\n") == ("a", bpe.eos_id)
  assert bpe.split_end("<eos>a") == ("<eos>a", None)
  assert bpe.split_end("<eos>") == ("", bpe.eos_id)


def test_a_final_end_of_sequence_is_no_part_of_a_turn(tmp_path):
  folder = families.phi(tmp_path)
  tokenizer, template = data.load(folder), data.load_template(folder)
  record = data.ConversationRecord(tuple(TALK), "f.jsonl:1", "a")
  (example,), _ = data.encode_conversations([record], tokenizer, template, WIDE)
  scored = _texts(tokenizer, example.ids[example.mask])
  assert scored == ["b", "c", "<|end|>", "e", "<|end|>"]
  assert _texts(tokenizer, example.ids[-1:]) == ["<|end|>"]
