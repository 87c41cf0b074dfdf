"""Files of rows that real users brought, as they brought them.

Each file was once refused, or misread. The tests of the parts have inputs of
their own; these tests skip if the folder isn't there.
"""

import pathlib

import pytest

from jalign import data, losses
from jalign.data.file_check import check_file
from jalign.data.findings import describe
from jalign.errors import UserError
from jalign.training.kinds import UNPAIRED


@pytest.fixture
def cases(shared) -> pathlib.Path:
  return shared / "cases"


CALLS = data.ChatTemplate(
  "{% if tools %}{{ tools | tojson }}{% endif %}"
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
  "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}</>"
  "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
  {},
)


def _read(path):
  records, _ = data.read_pairs(path, template=CALLS)
  return [(r.prompt, r.chosen, r.rejected) for r in records]


def test_tool_calls_from_each_container(cases, tmp_path):
  import datasets
  import pyarrow.parquet

  folder = cases / "arrow-null-tool-arguments"
  rows = {n: _read(folder / n) for n in ("tools.jsonl", "tools.parquet")}
  table = pyarrow.parquet.read_table(folder / "tools.parquet")
  datasets.Dataset(table).save_to_disk(str(tmp_path / "saved"))
  rows["saved"] = _read(tmp_path / "saved")
  assert rows["tools.jsonl"] == rows["tools.parquet"] == rows["saved"]
  assert "null" not in str(rows["tools.jsonl"])
  assert '{"city": "Oslo"}' in str(rows["tools.jsonl"])


def test_json_columns(cases):
  """The rows equal those of the JSON lines; a column has arguments as JSON."""
  wanted = _read(cases / "arrow-null-tool-arguments" / "tools.jsonl")
  for name in ("tools_json.parquet", "tools_json2.parquet"):
    assert _read(cases / "json-typed-columns" / name) == wanted


def test_labels_that_are_all_alike(cases):
  records, _ = data.read_binary(cases / "kto-one-label" / "kto_true.jsonl")
  tokenizer = data.train_bpe([r.prompt for r in records], 300)
  rows, _ = data.encode_binary(records, tokenizer, data.Limits(64))
  names = losses.array_parameters(losses.kto)
  with pytest.raises(UserError, match="are desirable"):
    UNPAIRED.records["unpaired"].check("kto", names, rows)


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
  said = "\n".join(describe(check_file(folder / "tools.jsonl")))
  assert "training needs a template" in said and "used 2" in said
  said = "\n".join(describe(check_file(folder / "conv.jsonl")))
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
