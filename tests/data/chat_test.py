"""Chat templates: which tokens are prompt or response, and which are scored."""

import json

import pytest
import transformers

from jalign import data
from jalign.data.rows import BadRow
from jalign.errors import UserError
from tests.data import chat_tokenizer

WIDE = data.Limits(max_tokens=1000)
ASK = [{"role": "user", "content": "Hi"}]
TALK = [
  {"role": "system", "content": "S"},
  {"role": "user", "content": "a"},
  {"role": "assistant", "content": "bc"},
  {"role": "user", "content": "d"},
  {"role": "assistant", "content": "e"},
]
# Shortens earlier answers, as templates that hide reasoning do.
FORGETFUL = (
  "{% for m in messages %}[{{ m.role }}] "
  "{% if m.role != 'assistant' or loop.last %}{{ m.content }}{% endif %}\n"
  "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return chat_tokenizer.write(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
  folder = tmp_path_factory.mktemp("marked")
  return chat_tokenizer.write(folder, chat_tokenizer.MARKED)


def _talk(messages=TALK):
  return data.ConversationRecord(tuple(messages), "f.jsonl:7", "a")


def test_prompt_and_response_are_those_of_apply_chat_template(folder):
  template = data.load_template(folder)
  answer = [{"role": "assistant", "content": "Yes."}]
  prompt, response = template.exchange(ASK, answer)
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  assert prompt == theirs.apply_chat_template(
    ASK, tokenize=False, add_generation_prompt=True
  )
  assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
  # The line break after the end opens the next turn, so no response has it.
  assert response == "Yes.<|im_end|>"
  whole = theirs.apply_chat_template(ASK + answer, tokenize=False)
  assert prompt + response + "\n" == whole


def test_one_end_of_sequence(folder):
  template, tokenizer = data.load_template(folder), data.load(folder)
  prompt, response = template.exchange(
    ASK, [{"role": "assistant", "content": "Yes."}]
  )
  record = data.DemonstrationRecord(prompt, response, "f:1", "g")
  encoded = data.encode_demonstration(record, tokenizer, WIDE)
  scored = encoded.ids[encoded.mask].tolist()
  assert scored == [*tokenizer.encode("Yes."), tokenizer.eos_id]


@pytest.mark.parametrize("kind", ["folder", "marked"])
def test_masks_by_hand(kind, request):
  folder = request.getfixturevalue(kind)
  tokenizer = data.load(folder)
  template = data.load_template(folder)
  assert template.marks_assistant == (kind == "marked")
  (encoded,), cut = data.encode_conversations(
    [_talk()], tokenizer, template, WIDE
  )
  text = tokenizer.backend.decode(
    encoded.ids.tolist(), skip_special_tokens=False
  )
  short = text.replace("<|im_start|>", "<").replace("<|im_end|>", ">")
  assert short == (
    "<system\nS>\n<user\na>\n<assistant\nbc>\n<user\nd>\n<assistant\ne>"
  )
  # Each character and each mark is a token: positions are counted in `short`.
  scored = [i for i, on in enumerate(encoded.mask) if on]
  first = len("<system\nS>\n<user\na>\n<assistant\n")
  last = len(short) - len("e>")
  assert len(encoded.ids) == len(short)
  assert scored == [first, first + 1, first + 2, last, last + 1]
  assert cut.summary() == "none of 1 conversations truncated"


def test_marked_masks_are_transformers_own(marked):
  theirs = transformers.AutoTokenizer.from_pretrained(str(marked))
  want = theirs.apply_chat_template(
    TALK, return_assistant_tokens_mask=True, return_dict=True
  )
  encoded = data.encode_conversation(
    _talk(), data.load(marked), data.load_template(marked), WIDE
  )
  length = len(encoded.ids)  # transformers' has the line break, too
  assert want["input_ids"][:length] == encoded.ids.tolist()
  assert want["assistant_masks"][:length] == encoded.mask.astype(int).tolist()
  assert not any(want["assistant_masks"][length:])


def test_one_turn_is_its_demonstration(folder):
  template, tokenizer = data.load_template(folder), data.load(folder)
  answer = {"role": "assistant", "content": "\nYes."}
  example = data.encode_conversation(
    _talk([*ASK, answer]), tokenizer, template, WIDE
  )
  prompt, response = template.exchange(ASK, [answer])
  other = data.encode_demonstration(
    data.DemonstrationRecord(prompt, response, "f:1", "g"), tokenizer, WIDE
  )
  assert example.ids.tolist() == other.ids.tolist()
  assert example.mask.tolist() == other.mask.tolist()


def test_without_an_end_in_the_template_the_last_turn_gets_one():
  bpe = data.train_bpe(["user: a assistant: bc"] * 5, 280)
  encoded = data.encode_conversation(_talk(), bpe, data.PLAIN_CHAT, WIDE)
  assert encoded.ids[0] == bpe.bos_id and encoded.ids[-1] == bpe.eos_id
  assert bpe.decode(encoded.ids[encoded.mask]) == " bc e"
  assert encoded.mask[-1] and not encoded.mask[0]


def test_bos_comes_once(tmp_path):
  folder = chat_tokenizer.write(
    tmp_path, "{{ bos_token }}" + chat_tokenizer.CHATML, bos="<s>"
  )
  template, tokenizer = data.load_template(folder), data.load(folder)
  encoded = data.encode_conversation(_talk(), tokenizer, template, WIDE)
  assert encoded.ids[0] == tokenizer.bos_id
  assert encoded.ids.tolist().count(tokenizer.bos_id) == 1


def test_long_conversations_lose_their_end(folder):
  template, tokenizer = data.load_template(folder), data.load(folder)
  whole = data.encode_conversation(_talk(), tokenizer, template, WIDE)
  limits = data.Limits(max_tokens=40)
  (short,), cut = data.encode_conversations(
    [_talk()], tokenizer, template, limits
  )
  assert short.ids.tolist() == whole.ids[:40].tolist()
  assert short.mask.tolist() == whole.mask[:40].tolist()
  lost = len(whole.ids) - 40
  assert cut.parts == {"conversations": (1, 1, lost)}
  assert "1 conversations (end) (100.0%" in cut.summary()
  with pytest.raises(UserError, match="f.jsonl:7: no assistant token is left"):
    data.encode_conversation(_talk(), tokenizer, template, data.Limits(10))


def test_a_template_that_changes_the_past_is_refused():
  template = data.load_template(FORGETFUL)
  with pytest.raises(UserError, match="f.jsonl:7: .*differently once") as e:
    data.encode_conversation(
      _talk(), data.train_bpe(["a"], 260), template, WIDE
    )
  assert "'bc' becomes" in str(e.value)
  opening = data.load_template(
    "{% if add_generation_prompt %}x{% else %}y{% endif %}"
  )
  with pytest.raises(BadRow, match="prefix"):
    opening.exchange(ASK, [{"role": "assistant", "content": "b"}])


def test_templates_that_refuse_say_why(tmp_path):
  strict = data.load_template(
    "{% if messages[0].role != 'user' %}"
    "{{ raise_exception('no system turn, please') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
  )
  with pytest.raises(BadRow, match="no system turn, please"):
    strict.exchange(TALK[:1], TALK[2:3])


def test_where_templates_come_from(tmp_path, folder):
  file = tmp_path / "chat.jinja"
  file.write_text(chat_tokenizer.CHATML)
  assert data.load_template(file).text == data.load_template(folder).text
  assert data.load_template(folder).end == "<|im_end|>"
  ended = "{{ messages[0].content }}{{ eos_token }}"
  assert data.load_template(ended, eos_token="</s>").render(ASK) == "Hi</s>"
  bare = chat_tokenizer.write(tmp_path / "bare", template=None)
  for source, problem in (
    (tmp_path / "none.jinja", "no chat template can be read"),
    (bare, "has no chat template"),
    (tmp_path, "no tokenizer can be loaded"),
    ("{% if %}", "is not Jinja"),
    (ended, "writes eos_token, which Jinja would silently leave empty"),
  ):
    with pytest.raises(UserError, match=problem) as caught:
      data.load_template(source)
    assert caught.value.remedy


def test_templates_are_sandboxed():
  template = data.load_template("{{ messages.__class__.__mro__ }}")
  with pytest.raises(BadRow, match="refuses"):
    template.render(ASK)


def test_template_and_tokenizer_must_agree(folder):
  bpe = data.train_bpe(["a"], 260)
  with pytest.raises(UserError, match=r"ends texts with '<\|im_end"):
    data.encode_conversations([_talk()], bpe, data.load_template(folder), WIDE)
  ended = data.load_template(
    "{{ messages[0].content }}{{ eos_token }}", eos_token="<eos>"
  )
  with pytest.raises(UserError, match="reads as plain text"):
    data.encode_conversations([_talk()], bpe, ended, WIDE)


# Writes a row's other fields beside its messages, such as tools.
CALLING = (
  "{% if tools %}[tools] {% for t in tools %}{{ t | tojson }}{% endfor %}\n"
  "{% endif %}"
  "{% for m in messages %}[{{ m.role }}] "
  "{% for c in m.tool_calls or [] %}call {{ c.function.name }}"
  "({{ c.function.arguments | tojson }}){% endfor %}{{ m.content }}"
  "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
  "{% if add_generation_prompt %}[assistant] "
  "{% if thinking %}hm {% endif %}{% endif %}"
)
CALL = {
  "role": "assistant",
  "content": None,
  "tool_calls": [
    {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
  ],
}
TOOLS = [
  {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object"}},
  }
]


@pytest.mark.parametrize("as_text", [False, True])
def test_tools_and_calls_are_left_intact(tmp_path, as_text):
  folder = chat_tokenizer.write(tmp_path / "chat", CALLING)
  row = {
    "prompt": [*ASK, CALL, {"role": "tool", "content": "2"}],
    "chosen": [{"role": "assistant", "content": "It is 2."}],
    "rejected": [CALL],
    "tools": json.dumps(TOOLS) if as_text else TOOLS,
  }
  path = tmp_path / "rows.jsonl"
  path.write_text(json.dumps(row) + "\n")
  (pair,), report = data.read("pairs", path, template=str(folder))
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  call = {**CALL, "content": ""}  # None would be written as the word "None"
  prompt = [*ASK, call, row["prompt"][-1]]
  want = theirs.apply_chat_template(
    prompt, tools=TOOLS, tokenize=False, add_generation_prompt=True
  )
  assert pair.prompt == want and want.startswith("[tools] {")
  assert pair.chosen == "It is 2.<|im_end|>"
  assert pair.rejected == 'call f({"x": 1})<|im_end|>'
  assert not report.ignored
  # All assistant's turns of a conversation are scored, calls included.
  turns = {"messages": [*row["prompt"], row["chosen"][0]], "tools": TOOLS}
  path.write_text(json.dumps(turns) + "\n")
  (talk,), _ = data.read("conversations", path)
  template, tokenizer = data.load_template(folder), data.load(folder)
  (encoded,), _ = data.encode_conversations([talk], tokenizer, template, WIDE)
  scored = tokenizer.decode(encoded.ids[encoded.mask])
  assert scored == 'call f({"x": 1})It is 2.'
  assert tokenizer.decode(encoded.ids).startswith("[tools] {")


def test_a_row_says_how_it_is_written(tmp_path):
  folder = chat_tokenizer.write(tmp_path / "chat", CALLING)
  path = tmp_path / "rows.jsonl"
  for value, end in (({"thinking": True}, "hm "), (None, "[assistant] ")):
    path.write_text(
      json.dumps({"prompt": ASK, "chat_template_kwargs": value}) + "\n"
    )
    (prompt,), _ = data.read("prompts", path, template=str(folder))
    assert prompt.prompt.endswith(end)
  for row in ({"tools": "f"}, {"chat_template_kwargs": [1]}):
    path.write_text(json.dumps({"prompt": ASK, **row}) + "\n")
    with pytest.raises(UserError, match=next(iter(row))):
      data.read("prompts", path, template=str(folder))


def test_padding_that_is_the_end_of_sequence(folder):
  """Masks come from lengths, so a scored end of sequence stays scored."""
  tokenizer = data.load(folder)
  assert tokenizer.pad_id == tokenizer.eos_id  # the folder has no padding
  template = data.load_template(folder)
  prompt, response = template.exchange(
    ASK, [{"role": "assistant", "content": "Yes."}]
  )
  record = data.DemonstrationRecord(prompt, response, "f.jsonl:1", "a")
  encoded = data.encode_demonstration(record, tokenizer, WIDE)
  batch = data.collate_sequences(
    [encoded], 1, len(encoded.ids) + 5, pad_id=tokenizer.pad_id
  ).sequences
  assert batch.lengths[0] == len(encoded.ids)
  scored = batch.tokens[0][batch.mask[0]]
  assert scored.tolist() == [*tokenizer.encode("Yes."), tokenizer.eos_id]
  assert (batch.tokens[0][batch.lengths[0] :] == tokenizer.eos_id).all()
