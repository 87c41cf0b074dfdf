"""Rows of the data that belong to prompts, as a judge gets them."""

import numpy as np

from jalign.experiment.answers import written_answers
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.data.prepare import prepare
from jalign.feedback import from_reward


def _prepared(place, rows, folder, **changes):
  place.write_data(rows)
  config = defaults()
  config["tokenizer"]["vocab_size"] = 272
  config["data"] |= {"path": str(place.data)} | changes
  return prepare(parse(config), folder, None)


def test_rows_are_the_first_of_a_prompt_and_none_where_they_lack(
  place, tmp_path
):
  rows = [
    {"prompt": f"q{i}:", "chosen": " a", "rejected": " b", "answer": i}
    for i in range(20)
  ]
  rows[0]["prompt"] += " and more of it"
  rows += [rows[3] | {"answer": 77, "chosen": " c"}, rows[4] | {"chosen": " c"}]
  del rows[5]["answer"]
  rows[6]["answer"] = None
  rows[7] |= {"more": {"tests": ["x"]}}
  found = _prepared(
    place, rows, tmp_path / "run", judge_columns=("answer", "more.tests")
  )
  main = found.main
  prompts = [*main.train_prompts, *main.eval_prompts]
  assert len(prompts) == 20
  got = dict(
    zip(
      (prompt.text for prompt in prompts),
      main.judge_rows(prompt.source for prompt in prompts),
    )
  )
  assert got == {
    rows[i]["prompt"]: {
      "answer": None if i in (5, 6) else i,
      "more.tests": ["x"] if i == 7 else None,
    }
    for i in range(20)
  }
  (line,) = (line for line in found.lines if "judge sees" in line)
  assert "of 20 prompts" in line
  assert (
    "rows that lack a column have None: 'answer' of 2, 'more.tests' of 19"
    in (line)
  )
  assert "1 prompts have different rows: the judge sees the first" in line
  assert main.facts["judge_rows"]["different_rows"] == 1
  # A batch is filled with the shortest prompt, and with its row.
  fill = min(main.train_prompts, key=lambda prompt: len(prompt.ids))
  loader = main.prompt_loader(len(main.train_prompts) + 3)
  batch = next(loader)
  filled = main.judge_rows(batch.sources, len(batch.data.texts))
  assert batch.data.texts[-3:] == [fill.text] * 3
  assert [got[text] for text in batch.data.texts] == filled
  loader.close()
  # Without the setting no rows are read, and no line is printed.
  plain = _prepared(place, rows, tmp_path / "run")
  assert plain.main.judge_rows(["?"]) == [{}]
  assert not any("judge" in line for line in plain.lines)
  assert "'answer' in 20 rows" in plain.summary()


def test_texts_that_nobody_sampled_become_tokens(place, tmp_path):
  rows = [
    {"prompt": f"q{i}:", "chosen": " a", "rejected": " b"} for i in range(20)
  ]
  found = _prepared(place, rows, tmp_path / "run")
  prompts, texts = found.main.train_prompts[:2], [" a b a", ""]
  judge = from_reward(lambda prompt, response: 0.0)
  given = (prompts, texts, found.main, found.tokenizer)
  assert written_answers(*given, judge).sequences is None
  answers = written_answers(*given, judge._replace(reads_tokens=True))
  assert answers.texts == texts and answers.prompts == [p.text for p in prompts]
  tokens, mask, lengths, _ = vars(answers.sequences).values()
  end = found.tokenizer.end_ids[0]
  for i, prompt in enumerate(prompts):
    row, start = tokens[i, : lengths[i]], len(prompt.ids)
    np.testing.assert_array_equal(row[:start], prompt.ids)
    assert found.tokenizer.decode(row[start:-1]) == texts[i] and row[-1] == end
    np.testing.assert_array_equal(
      np.flatnonzero(mask[i]), np.arange(start, lengths[i])
    )
