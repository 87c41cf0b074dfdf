"""What real users brought, as they brought it: `../shared/cases`.

Each was refused, or read as something else, once. The tests of the parts have
inputs of their own; these skip where the folder isn't there.
"""

import pathlib
import shutil

import numpy as np
import pytest
import transformers

from jalign import data
from jalign.data.check import check
from jalign.data.findings import describe
from jalign.errors import UserError

WIDE = data.Limits(max_tokens=1000)
CHAT = [
  {"role": "user", "content": "y o"},
  {"role": "assistant", "content": "a1"},
]


@pytest.fixture
def cases(shared) -> pathlib.Path:
  return shared / "cases"


def _theirs(folder):
  return transformers.AutoTokenizer.from_pretrained(str(folder))


def _pair(tokenizer, template, chat=CHAT):
  prompt, chosen = template.exchange(chat[:-1], chat[-1:])
  record = data.PreferenceRecord(prompt, chosen, chosen, "f:1", "g")
  return data.encode_pair(record, tokenizer, WIDE)


@pytest.mark.parametrize("name", ["chatml", "gemma", "phi", "reallama"])
def test_one_chat_has_the_ids_of_transformers(cases, name):
  folder = cases / "tokenizers" / name
  tokenizer, template = data.load(folder), data.load_template(folder)
  pair = _pair(tokenizer, template)
  theirs = _theirs(folder).apply_chat_template(CHAT, return_dict=False)
  ours = [*pair.prompt, *pair.chosen]
  assert ours == theirs[: len(ours)]
  asked = _theirs(folder).apply_chat_template(
    CHAT[:-1], add_generation_prompt=True, return_dict=False
  )
  assert pair.prompt.tolist() == asked
  # The scored response ends with the template's end of turn, said once.
  assert pair.chosen[-1] == tokenizer.end_ids[0]
  assert not set(pair.chosen[:-1].tolist()) & set(tokenizer.end_ids)


def test_ends_of_turns(cases, tmp_path):
  folder = tmp_path / "gemma"
  shutil.copytree(cases / "tokenizers" / "gemma", folder)
  theirs = _theirs(folder)
  eos, turn = theirs.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
  assert data.load(folder).end_ids == (turn, eos)
  (folder / "generation_config.json").write_text(
    f'{{"eos_token_id": [{eos}, {turn}]}}'
  )
  assert data.load(folder).end_ids == (turn, eos)


@pytest.mark.parametrize("name", ["chatml", "gemma", "phi", "reallama"])
def test_conversations_of_several_turns(cases, name):
  folder = cases / "tokenizers" / name
  tokenizer, template = data.load(folder), data.load_template(folder)
  talk = CHAT + [
    {"role": "user", "content": "no"},
    {"role": "assistant", "content": "b1"},
  ]
  record = data.ConversationRecord(tuple(talk), "f:1", "g")
  (one,), _ = data.encode_conversations([record], tokenizer, template, WIDE)
  theirs = _theirs(folder).apply_chat_template(talk, return_dict=False)
  assert one.ids.tolist() == theirs[: len(one.ids)]
  assert one.ids[-1] == tokenizer.end_ids[0]
  assert one.mask.sum() == sum(
    len(_pair(tokenizer, template, talk[:n]).chosen) for n in (2, 4)
  )


def test_a_template_as_a_file_or_a_string(cases):
  folder = cases / "tokenizers" / "chatml"
  file = cases / "double-eos-jinja-file" / "chatml.jinja"
  tokenizer = data.load(folder)
  found = [
    _pair(tokenizer, data.load_template(source))
    for source in (folder, file, file.read_text())
  ]
  for pair in found[1:]:
    np.testing.assert_array_equal(pair.chosen, found[0].chosen)
    np.testing.assert_array_equal(pair.prompt, found[0].prompt)
  assert found[0].chosen[-1] == tokenizer.eos_id
  assert found[0].chosen[-2] != tokenizer.eos_id


CALLS = data.ChatTemplate(
  "{% if tools %}{{ tools | tojson }}{% endif %}"
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
  "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}</>"
  "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
  {},
)


def test_tool_calls_from_each_container(cases, tmp_path):
  import datasets
  import pyarrow.parquet

  folder = cases / "arrow-null-tool-arguments"
  rows = {}
  for name in ("tools.jsonl", "tools.parquet"):
    records, _ = data.read_pairs(folder / name, template=CALLS)
    rows[name] = [(r.prompt, r.chosen, r.rejected) for r in records]
  table = pyarrow.parquet.read_table(folder / "tools.parquet")
  datasets.Dataset(table).save_to_disk(str(tmp_path / "saved"))
  records, _ = data.read_pairs(tmp_path / "saved", template=CALLS)
  rows["saved"] = [(r.prompt, r.chosen, r.rejected) for r in records]
  assert rows["tools.jsonl"] == rows["tools.parquet"] == rows["saved"]
  assert "null" not in str(rows["tools.jsonl"])
  assert '{"city": "Oslo"}' in str(rows["tools.jsonl"])


def test_json_columns(cases):
  for name in ("tools_json.parquet", "tools_json2.parquet"):
    path = cases / "json-typed-columns" / name
    records, report = data.read_pairs(path, template=CALLS)
    assert len(records) == report.read > 0
    for record in records:
      assert '\\"' not in record.chosen  # encoded twice


def test_a_folder_of_parquet_as_the_hub_has_it(cases):
  folder = cases / "hub-parquet-folder"
  rows = sum(
    data.read_pairs(path)[1].read for path in sorted(folder.glob("*.parquet"))
  )
  assert data.read_pairs(folder)[1].read == rows > 1


def test_a_tool_may_return_nothing(cases):
  path = cases / "empty-tool-result" / "pair.jsonl"
  (record,), _ = data.read_pairs(path, template=CALLS)
  assert "<tool></>" in record.prompt and "Done." in record.chosen


def test_data_check_of_calls(cases):
  folder = cases / "data-check-tool-calls"
  said = "\n".join(describe(check(folder / "tools.jsonl")))
  assert "training needs a template" in said and "used 2" in said
  said = "\n".join(describe(check(folder / "conv.jsonl")))
  assert "no row comes twice" in said


def test_rows_that_are_bad_have_a_line(cases):
  surrogate = cases / "surrogate-in-nested-text" / "call.jsonl"
  with pytest.raises(UserError, match=r"call\.jsonl:1"):
    data.read_conversations(surrogate)
  role = cases / "role-not-a-string" / "pair.jsonl"
  with pytest.raises(UserError, match=r"pair\.jsonl:1"):
    data.read_pairs(role, template=data.PLAIN_CHAT)
  records, report = data.read_pairs(
    role, template=data.PLAIN_CHAT, on_error="skip"
  )
  assert len(records) == 1 and report.lines() == {"roles": [1]}
