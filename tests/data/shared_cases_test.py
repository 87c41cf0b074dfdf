"""Tokenizers and files of real users give the ids that transformers gives."""

import json

import pytest
import transformers

from jalign import data

WIDE = data.Limits(max_tokens=1000)
ENDS = {
  "chatml": "<|im_end|>",
  "gemma": "<end_of_turn>",
  "phi": "<|end|>",
  "reallama": "</s>",
}
TALK = [
  {"role": "user", "content": "yes o"},
  {"role": "assistant", "content": "y o"},
  {"role": "user", "content": " so ?"},
  {"role": "assistant", "content": "\nPa no"},
]


@pytest.fixture(params=ENDS)
def kind(request, shared):
  """(folder, jalign's tokenizer, transformers', the end of a turn)."""
  folder = shared / "cases" / "tokenizers" / request.param
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  return folder, data.load(folder), theirs, ENDS[request.param]


def _read(tmp_path, kind, row, folder):
  path = tmp_path / "rows.jsonl"
  path.write_text(json.dumps(row) + "\n")
  template = {} if kind == "conversations" else {"template": folder}
  records, _ = data.read(kind, path, **template)
  return records


def test_rows_of_every_kind(tmp_path, kind):
  folder, tokenizer, theirs, end = kind
  asked, answers = TALK[:3], (TALK[3:], [{**TALK[3], "content": "o"}])
  scored = [
    {"text": turns[0]["content"], "score": i} for i, turns in enumerate(answers)
  ]
  rows = {
    "pairs": {"prompt": asked, "chosen": answers[0], "rejected": answers[1]},
    "ranked": {"prompt": asked, "responses": scored},
    "binary": {"prompt": asked, "response": answers[0], "label": True},
    "demonstrations": {"messages": TALK},
  }
  prompt = theirs.apply_chat_template(
    asked, add_generation_prompt=True, return_dict=False
  )
  wholes = [
    theirs.apply_chat_template([*asked, *turns], return_dict=False)
    for turns in answers
  ]
  encode = {
    "pairs": data.encode_pairs,
    "ranked": data.encode_lists,
    "binary": data.encode_binary,
    "demonstrations": data.encode_demonstrations,
  }
  for name, row in rows.items():
    records = _read(tmp_path, name, row, folder)
    (example,), cut = encode[name](records, tokenizer, WIDE)
    assert cut.joined == 0
    if name == "demonstrations":
      parts = [(example.ids[~example.mask], example.ids[example.mask])]
    elif name == "pairs":
      parts = [
        (example.prompt, example.chosen),
        (example.prompt, example.rejected),
      ]
    elif name == "ranked":
      parts = [(example.prompt, ids) for ids in example.responses]
    else:
      parts = [(example.prompt, example.response)]
    for (start, response), whole in zip(parts, wholes):
      assert start.tolist() == prompt
      ids = [*start, *response]
      assert ids == whole[: len(ids)]
      assert tokenizer.backend.id_to_token(int(ids[-1])) == end
  (prompts,) = data.encode_prompts(
    _read(tmp_path, "prompts", {"prompt": asked}, folder), tokenizer
  )
  assert prompts.ids.tolist() == prompt


def test_conversations(tmp_path, kind):
  folder, tokenizer, theirs, end = kind
  records = _read(tmp_path, "conversations", {"messages": TALK}, folder)
  template = data.load_template(folder)
  (example,), cut = data.encode_conversations(
    records, tokenizer, template, WIDE
  )
  assert cut.parted == (0, 0) and cut.joined == 0
  whole = theirs.apply_chat_template(TALK, return_dict=False)
  assert example.ids.tolist() == whole[: len(example.ids)]
  scored = [
    tokenizer.backend.id_to_token(int(i)) for i in example.ids[example.mask]
  ]
  assert scored.count(end) == 2 and scored[-1] == end


def test_plain_prompts(kind):
  _, tokenizer, theirs, _ = kind
  (prompt,) = data.encode_prompts(
    [data.PromptRecord("yes o", "f:1", "g")], tokenizer
  )
  assert prompt.ids.tolist() == theirs("yes o").input_ids


def test_ends_listed_for_generation(tmp_path, shared):
  source = shared / "cases" / "tokenizers" / "gemma"
  for file in ("tokenizer.json", "tokenizer_config.json"):
    (tmp_path / file).write_bytes((source / file).read_bytes())
  path = tmp_path / "generation_config.json"
  path.write_text(json.dumps({"eos_token_id": [257, 260]}))
  assert data.load(tmp_path).end_ids == (257, 260)  # there is no template
  name = "chat_template.jinja"
  (tmp_path / name).write_bytes((source / name).read_bytes())
  assert data.load(tmp_path).end_ids == (260, 257)


def test_a_template_as_folder_file_and_string(shared):
  folder = shared / "cases" / "tokenizers" / "chatml"
  tokenizer = data.load(folder)
  cases = shared / "cases" / "double-eos-jinja-file"
  file = cases / "chatml.jinja"
  encodings = []
  for source in (folder, file, file.read_text()):
    pairs, _ = data.read("pairs", cases / "pair.jsonl", template=source)
    (pair,), _ = data.encode_pairs(pairs, tokenizer, WIDE)
    talks, _ = data.read("conversations", cases / "conv.jsonl")
    (talk,), _ = data.encode_conversations(
      talks, tokenizer, data.load_template(source), WIDE
    )
    encodings.append([*pair.prompt, *pair.chosen, *pair.rejected, *talk.ids])
    said = tokenizer.backend.decode([*pair.chosen], skip_special_tokens=False)
    assert said == "yo<|im_end|>"
  assert encodings[0] == encodings[1] == encodings[2]
