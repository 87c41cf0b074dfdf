"""`jalign data check`: its findings, and its lines."""

import json

import pytest

from jalign import cli, data
from jalign.data.file_check import check_file
from jalign.data.findings import describe
from jalign.errors import UserError
from tests.data import chat_tokenizer


def _pair(prompt, chosen, rejected, **more):
  return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def _write(path, *rows):
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  path.write_text("\n".join(lines) + "\n")
  return path


@pytest.fixture
def pairs(tmp_path):
  return _write(
    tmp_path / "pairs.jsonl",
    _pair("a", "long", "s", chosen_score=2, rejected_score=1),
    _pair("b", "xx", "yyyy", chosen_score=1, rejected_score=1),
    "{",
    _pair("a", "long", "s", chosen_score=2, rejected_score=1),
    _pair("b", "yyyy", "xx", chosen_score=0, rejected_score=3),
    _pair("c", " ", "s"),
  )


def test_what_is_found_in_pairs(pairs):
  check = check_file(pairs)
  assert (check.source, check.guessed, check.plain_chat) == (
    "pairs",
    True,
    False,
  )
  assert check.report.lines() == {"json": [3], "empty_response": [6]}
  assert [p.where for p in check.problems] == [f"{pairs}:3", f"{pairs}:6"]
  assert check.duplicates == ((f"{pairs}:4", f"{pairs}:1"),)
  assert check.conflicts == ((f"{pairs}:5", f"{pairs}:2"),)
  assert check.different_prompts == 2
  assert check.balance["chosen is longer"] == 0.75
  assert check.balance["scores tie, of those"] == 0.25
  assert check.balance["rejected scores higher, of those"] == 0.25
  assert check.balance["score margins"] == (-3, 0.5, 1, 1)
  assert check.lengths["prompts", "characters"] == (1, 1, 1, 1)
  assert check.lengths["responses", "characters"].most == 4


def test_leaks_between_splits(pairs, tmp_path):
  other = _write(
    tmp_path / "eval.jsonl",
    _pair("b", "yyyy", "xx"),
    _pair("a ", "new", "s"),
    _pair("z", "new", "s"),
  )
  overlap = check_file(pairs, against=other).overlap
  assert overlap.prompts == (f"{pairs}:2", f"{pairs}:5")  # "a " is not "a"
  assert overlap.groups == tuple(f"{pairs}:{n}" for n in (1, 2, 4, 5))
  assert overlap.rows == (f"{pairs}:5",)
  assert overlap.conflicts == ((f"{pairs}:2", f"{other}:1"),)
  nothing = _write(tmp_path / "none.jsonl", _pair("z", "new", "s"))
  overlap = check_file(pairs, against=nothing).overlap
  assert not (overlap.prompts or overlap.groups or overlap.rows)


def test_labels_and_lists(tmp_path):
  label = lambda response, label: {
    "prompt": "a",
    "response": response,
    "label": label,
  }
  path = _write(
    tmp_path / "a.jsonl", label("x", 1), label("x", 0), label("y", 1)
  )
  check = check_file(path)
  assert check.source == "binary"
  assert check.balance == {"desirable": pytest.approx(2 / 3)}
  assert check.conflicts == ((f"{path}:2", f"{path}:1"),)
  path = _write(
    tmp_path / "b.jsonl",
    {"prompt": "a", "responses": ["x", "y", "z"], "scores": [1, 1, 2]},
    {"prompt": "b", "responses": ["x", "y"], "scores": [1, 1]},
  )
  check = check_file(path)
  assert check.balance["responses a list"] == (2, 2.5, 2.95, 3)
  assert check.balance["lists with a tie"] == 1
  assert check.balance["lists all of one score"] == 0.5


def test_tokens_and_templates(tmp_path):
  folder = chat_tokenizer.write(tmp_path / "tokenizer")
  turns = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "bc"},
  ]
  other = [turns[0], {"role": "assistant", "content": "d"}]
  path = _write(tmp_path / "a.jsonl", {"chosen": turns, "rejected": other})
  check = check_file(path, tokenizer=data.load(folder), template=folder)
  assert not check.plain_chat
  assert check.lengths["prompts", "tokens"].most == len(
    "<user\na>\n<assistant\n"
  )
  assert check.lengths["responses", "tokens"].most == len("bc>")
  assert check_file(path).plain_chat
  path = _write(tmp_path / "b.jsonl", {"messages": turns})
  assert check_file(path).source == "conversations"
  assert check_file(path).lengths["responses", "characters"] == (2, 2, 2, 2)
  assert not check_file(path, template=folder).plain_chat
  refuses = "{{ raise_exception('no') }}"
  with pytest.raises(UserError, match="chat template refuses"):
    check_file(path, template=refuses)


def test_the_generated_world(tmp_path):
  check = check_file("preferences[:40]", "tldr_world", against="sft[:20]")
  assert (check.source, check.plain_chat) == ("tldr_world", False)
  assert check.report.used == 40 and check.balance["with both scores"] == 1
  assert len(check.overlap.prompts) == 20
  assert describe(check)
  with pytest.raises(UserError, match="'tldr_world' takes no template"):
    check_file("sft[:20]", "tldr_world", template=tmp_path)


def test_a_tokenizer_that_lacks_a_word(tmp_path):
  path = _write(tmp_path / "a.jsonl", _pair("anna", "sings", "xyzzy"))
  tokenizer = data.train_words(["anna sings"])
  with pytest.raises(UserError, match="'xyzzy' can't be encoded"):
    check_file(path, tokenizer=tokenizer)


def test_the_command_says_it_all(pairs, capsys, tmp_path):
  other = _write(tmp_path / "eval.jsonl", _pair("b", "yyyy", "xx"))
  folder = tmp_path / "bpe"
  data.train_bpe(["a"], 260).save(folder)
  cli.main(
    [
      "data",
      "check",
      str(pairs),
      "--against",
      str(other),
      f"--tokenizer={folder}",
    ]
  )
  said = " ".join(capsys.readouterr().out.split())
  for text in (
    "source pairs (guessed from the first row; --source names another)",
    "rows read 6 pairs, used 4, skipped 2: 1 that are not JSON (line 3), 1 "
    "with an empty response (line 6)",
    "responses, characters: min 1, median 3, p95 4, max 4",
    "responses, tokens: min 1, median 3, p95 4, max 4",
    "1 row that came before: line 4 is line 1",
    "2 different prompts in 4 records",
    "1 with opposite labels: line 5 against line 2",
    "chosen is longer: 75.0%",
    "2 records with their prompt in both (lines 2, 5)",
    "1 with the opposite label there: line 2 against its line 1",
    f"problems {pairs}:3: the line is not JSON",
  ):
    assert text in said, text


def test_the_command_on_bad_input(tmp_path, capsys):
  odd = _write(tmp_path / "odd.jsonl", {"x": 1})
  good = _write(tmp_path / "good.jsonl", _pair("a", "b", "c"))
  for arguments, problem in (
    ([], "data needs the word check and one PATH"),
    (["check"], "data needs the word check"),
    (["chek", str(good)], "data needs the word check"),
    (["check", str(tmp_path / "none")], "there is no such file"),
    (["check", str(odd)], "a row with 'x' has the shape of no source"),
    (["check", str(good), "--source=hh"], "no usable row"),
    (["check", str(good), "--source=csv"], "no data source 'csv'"),
    (["check", str(good), "--against=none"], "none: there is no such file"),
    (["check", str(good), "--tokenizer=none"], "there is no such folder"),
  ):
    with pytest.raises(SystemExit) as caught:
      cli.main(["data", *arguments])
    assert caught.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert problem in said and "Traceback" not in said


def test_hh_as_published(shared):
  path = shared / "data" / "hh_harmless_base_test.jsonl.gz"
  check = check_file(path, against=path)
  assert check.source == "hh"
  assert len(check.problems) == 9 and not check.conflicts
  assert len(check.overlap.rows) == check.report.used == 2303
  assert "skipped 9: 4 with an empty response" in "\n".join(describe(check))


def test_alpacaeval_as_published(shared):
  check = check_file(shared / "data" / "alpacaeval2_ranked.jsonl.gz")
  assert (check.source, check.report.used) == ("ranked", 805)
  assert check.balance["responses a list"] == (9, 9, 9, 9)
