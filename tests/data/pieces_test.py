"""A text encoded in pieces has the ids of the text in one piece.

For every family's kind of tokenizer, the ids of pairs, lists, labels,
demonstrations and conversations are those that transformers gives whole texts.
"""

import functools
import json

import pytest
import transformers

from jalign import data
from jalign.data.file_check import check_file
from tests.data import families

WIDE = data.Limits(max_tokens=1000)
SPACED = {
  f"{how}-{name}": functools.partial(families.spaced, how=how, template=text)
  for how in ("first", "always", "never", "words", "prepend", "llama")
  for name, text in (("inst", families.LLAMA), ("roles", families.ZEPHYR))
}
KINDS = {
  "chatml": families.byte_level,
  "gemma": families.gemma,
  "gemma-bos": functools.partial(families.gemma, begins=True),
  "phi": families.phi,
  "phi-stripping": families.phi_stripping,
  "unigram": families.unigram,
  "unigram-roles": functools.partial(
    families.unigram, template=families.ZEPHYR
  ),
  "bos-without-template": functools.partial(
    families.spaced, template=families.ZEPHYR, begins=True
  ),
  **SPACED,
}
RESPONSES = ["yo", " yo", "\nyo", "no yo", "y o ", ": yo", "</s", "(\n\n)"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
  """(jalign's tokenizer, transformers', jalign's template)."""
  folder = KINDS[request.param](tmp_path_factory.mktemp("kind"))
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  return data.load(folder), theirs, data.load_template(folder)


def _whole(theirs, messages, ends):
  """Ids of a conversation, up to the last end of a turn."""
  ids = theirs.apply_chat_template(messages, return_dict=False)
  while ids[-1] not in ends or ids[-2] in ends:
    ids = ids[:-1]
  # There may be white space between the last turn's end and the text's.
  if ids.count(ends[0]) and ids[-1] != ends[0]:
    ids = ids[: len(ids) - ids[::-1].index(ends[0])]
  return ids


def _talk(*texts):
  roles = ("user", "assistant")
  return [
    {"role": roles[i % 2], "content": text} for i, text in enumerate(texts)
  ]


def test_chats(kind):
  tokenizer, theirs, template = kind
  joins = 0
  for text in RESPONSES:
    asked, answer = _talk("yo a", text)[:1], _talk("yo a", text)[1:]
    prompt, response = template.exchange(asked, answer)
    record = data.PreferenceRecord(
      prompt, response, response, "f:1", "g", end=template.end
    )
    (pair,), cut = data.encode_pairs([record], tokenizer, WIDE)
    want = theirs.apply_chat_template(
      asked, add_generation_prompt=True, return_dict=False
    )
    assert pair.prompt.tolist() == want
    whole = _whole(theirs, [*asked, *answer], tokenizer.end_ids)
    same = [*pair.prompt, *pair.chosen] == whole
    assert same == (not cut.joined), text
    joins += not same
    assert pair.chosen[-1] == tokenizer.end_ids[0]
    assert tokenizer.end_ids[0] not in pair.chosen[:-1]
  assert joins < len(RESPONSES) / 2


def test_plain_texts(kind):
  tokenizer, theirs, _ = kind
  joins = 0
  for prompt in ("yo a", "a\n\nQ:", "a "):
    for text in RESPONSES:
      record = data.DemonstrationRecord(prompt, text, "f:1", "g")
      (example,), cut = data.encode_demonstrations([record], tokenizer, WIDE)
      assert example.ids[~example.mask].tolist() == theirs(prompt).input_ids
      whole = [*theirs(prompt + text).input_ids, tokenizer.end_ids[0]]
      assert (example.ids.tolist() == whole) == (not cut.joined), (prompt, text)
      joins += cut.joined
  assert joins < 3 * len(RESPONSES) / 2


def test_conversations(kind):
  tokenizer, theirs, template = kind
  for text in ("yo", "no yo", "y o"):
    talk = _talk("yo a", text, "yo", text)
    record = data.ConversationRecord(tuple(talk), "f:1", "g")
    (example,), cut = data.encode_conversations(
      [record], tokenizer, template, WIDE
    )
    whole = _whole(theirs, talk, tokenizer.end_ids)
    assert (example.ids.tolist() == whole) == (not cut.joined), text
    assert (
      example.mask.sum() >= 2 * len(tokenizer.encode_after("\n", text)[0]) + 2
    )


def test_tokens_that_are_counted_of_a_file(tmp_path):
  folder = families.spaced(tmp_path / "a", "prepend", families.ZEPHYR)
  path = tmp_path / "rows.jsonl"
  path.write_text(
    json.dumps({"prompt": "a", "chosen": "yo", "rejected": "yo yo"}) + "\n"
  )
  check = check_file(path, tokenizer=data.load(folder), template=folder)
  # "yo</s>" and "yo▁yo</s>" follow a line break, without a space before them.
  assert check.lengths["responses", "tokens"].least == 2
  assert check.lengths["responses", "tokens"].most == 3
