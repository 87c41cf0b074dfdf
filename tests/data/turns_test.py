"""Conversations whose template writes earlier turns or prompts differently."""

import json

import pytest
import transformers

from jalign import data
from jalign.data.rows import BadRow
from jalign.errors import UserError
from tests.data import families

WIDE = data.Limits(max_tokens=1000)
TALK = [
  {"role": "user", "content": "a"},
  {"role": "assistant", "content": "bc"},
  {"role": "user", "content": "d"},
  {"role": "assistant", "content": "e"},
]


def _encoded(folder, talk=TALK, limits=WIDE):
  tokenizer, template = data.load(folder), data.load_template(folder)
  record = data.ConversationRecord(tuple(talk), "f.jsonl:7", "a")
  examples, cut = data.encode_conversations(
    [record], tokenizer, template, limits
  )
  return tokenizer, examples, cut


def _text(tokenizer, ids):
  return tokenizer.backend.decode([int(i) for i in ids], False)


def test_a_history_that_is_rewritten_is_taken_apart(tmp_path):
  folder = families.byte_level(tmp_path, families.QWEN)
  tokenizer, examples, cut = _encoded(folder)
  thought = "<think>\n\n</think>\n\n"
  assert [
    _text(tokenizer, example.ids[example.mask]) for example in examples
  ] == [
    thought + "bc<|im_end|>",
    thought + "e<|im_end|>",
  ]
  assert [example.source for example in examples] == [
    "f.jsonl:7#1",
    "f.jsonl:7#2",
  ]
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  for example, turns in zip(examples, (2, 4)):
    whole = theirs.apply_chat_template(TALK[:turns], return_dict=False)
    assert example.ids.tolist() == whole[:-1]  # the line break after the end
    prompt = theirs.apply_chat_template(
      TALK[: turns - 1], add_generation_prompt=True, return_dict=False
    )
    assert example.ids[~example.mask].tolist() == prompt
  assert cut.parted == (1, 2) and cut.count == 1
  assert "1 conversations as 2 demonstrations, turn by turn" in cut.summary()
  assert cut.to_dict()["parted"] == [1, 2]
  # A single turn is written in one way, so nothing is taken apart.
  _, (example,), cut = _encoded(folder, TALK[:2])
  assert cut.parted == (0, 0) and example.source == "f.jsonl:7"
  record = data.ConversationRecord(tuple(TALK), "f.jsonl:7", "a")
  with pytest.raises(UserError, match="'bc.* becomes|becomes 'bc"):
    data.encode_conversation(
      record, tokenizer, data.load_template(folder), WIDE
    )


def test_turns_beyond_the_limit_are_cut_and_counted(tmp_path):
  folder = families.byte_level(tmp_path, families.QWEN)
  _, whole, _ = _encoded(folder)
  first, second = (len(example.ids) for example in whole)
  tokenizer, examples, cut = _encoded(folder, limits=data.Limits(first - 1))
  assert len(examples) == 1 and cut.parted == (1, 1)
  assert examples[0].ids.tolist() == whole[0].ids[:-1].tolist()
  lost = 1 + second - (first - 1)
  assert cut.parts == {"conversations": (2, 2, lost)}
  with pytest.raises(UserError, match="f.jsonl:7: no assistant token is left"):
    _encoded(folder, limits=data.Limits(5))


def test_a_generation_prompt_that_opens_a_thought(tmp_path):
  folder = families.byte_level(tmp_path / "chat", families.THINKING)
  template = data.load_template(folder)
  assert template.opens == "<think>\n"
  assert data.load_template(families.byte_level(tmp_path / "b")).opens == ""
  tokenizer, (example,), cut = _encoded(folder)
  scored = _text(tokenizer, example.ids[example.mask])
  assert scored == "bc<|im_end|>e<|im_end|>" and cut.parted == (0, 0)
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  whole = theirs.apply_chat_template(TALK, return_dict=False)
  assert example.ids.tolist() == whole[:-1]
  # One answer of a pair may continue the opened thought.
  path = tmp_path / "pairs.jsonl"
  for bad, said in (("n", "n"), ("<think>\nn", "<think>\nn")):
    row = {
      "prompt": TALK[:1],
      "chosen": TALK[1:2],
      "rejected": [{"role": "assistant", "content": bad}],
    }
    path.write_text(json.dumps(row) + "\n")
    (pair,), _ = data.read_pairs(path, template=template)
    assert pair.prompt.endswith("<|im_start|>assistant\n")
    assert pair.chosen == "bc<|im_end|>"
    assert pair.rejected == said + "<|im_end|>"
    both = {"prompt": row["prompt"], "responses": [{"text": "bc", "score": 1}]}
    both["responses"].append({"text": bad, "score": 0})
    path.write_text(json.dumps(both) + "\n")
    (ranked,), _ = data.read_ranked(path, template=template)
    assert ranked.prompt == pair.prompt
    assert ranked.responses == (pair.chosen, pair.rejected)
  row |= {"chosen": [{"role": "assistant", "content": "<think>\nhm"}]}
  path.write_text(json.dumps(row) + "\n")
  (pair,), _ = data.read_pairs(path, template=template)
  assert pair.prompt.endswith("<|im_start|>assistant\n<think>\n")
  assert (pair.chosen, pair.rejected) == ("hm<|im_end|>", "n<|im_end|>")


@pytest.mark.parametrize(
  "opens, writes",
  [
    ("<|assistant|>\n", "<|model|>\n"),  # another role
    ("[assistant] ", "[model] "),
    ("<|assistant|>", ""),
    ("bot: <b>\n", "bot : "),
  ],
)
def test_other_prompts_than_the_conversation_has(opens, writes):
  template = data.load_template(
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    f"{{{{ {writes!r} }}}}{{% endif %}}{{{{ m.content }}}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{{{{ {opens!r} }}}}{{% endif %}}"
  )
  assert template.opens == ""
  with pytest.raises(BadRow) as caught:
    template.exchange(TALK[:1], TALK[1:2])
  reason, problem, remedy = caught.value.args
  assert reason == "prefix" and " becomes " in problem
  assert "without a template" in remedy


def test_turns_that_nothing_can_write(tmp_path):
  template = data.load_template(
    "{{ messages | length }}{% if add_generation_prompt %}x{% endif %}"
  )
  record = data.ConversationRecord(tuple(TALK), "f.jsonl:7", "a")
  bpe = data.train_bpe(["a"], 260)
  with pytest.raises(UserError, match="f.jsonl:7: .*differently once"):
    data.encode_conversations([record], bpe, template, WIDE)


def test_conversations_that_a_template_refuses_are_bad_rows(tmp_path):
  strict = (
    "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}"
    + families.CHATML
  )
  path = tmp_path / "rows.jsonl"
  rows = [{"messages": TALK[:2]}, {"messages": TALK}]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(UserError, match="rows.jsonl:2: .*too long"):
    data.read("conversations", path, template=strict)
  (record,), report = data.read(
    "conversations", path, on_error="skip", template=strict
  )
  assert record.messages == tuple(TALK[:2])
  assert report.lines() == {"template": [2]}
  # Conversations that are taken apart can be written, and are no bad rows.
  records, _ = data.read("conversations", path, template=families.QWEN)
  assert len(records) == 2
  never = "{{ messages | length }}{% if add_generation_prompt %}x{% endif %}"
  with pytest.raises(UserError, match="rows.jsonl:1: .*differently once"):
    data.read("conversations", path, template=never)
