"""What a user's function returns is used or refused, with its place."""

import re

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment import plugins
from jalign.experiment.run_report import Outcome
from tests.experiment.functions import TEXTS, settings_of
from tests.feedback.judged import judged

GIVEN = {
  "None": "gave None, not a number",
  "'0.5'": "gave the text '0.5', not a number",
  "1j": "gave a complex number, not a number",
  "[0.5]": "gave a list of 1, not a number",
  "later()": "gave a coroutine, not a number",
  "(x for x in [1])": "gave a generator, not a number",
  "float('nan')": "gave nan",
  "{}": "gave a dict, not a number",
  "10**5000": "gave an integer that no float holds, not a number",
  "__import__('numpy').ma.masked": "gave MaskedConstant of shape (), not a nu",
}


@pytest.mark.parametrize("value", GIVEN)
@pytest.mark.parametrize("kind", ["reward", "rewards", "preference", "batch"])
def test_what_is_no_number(tmp_path, kind, value, recwarn):
  names = {"reward": "p, r", "rewards": "p, r, rows"}.get(kind, "p, a, b")
  many = kind in ("rewards", "batch")
  made = f"[0.5, {value}]" if many else value
  text = f"""
async def later(): return 1
def mine({names}):
  return {made}
"""
  settings = settings_of(
    tmp_path, kind=kind, function="mine.py:mine", text=text
  )
  with pytest.raises(UserError) as e:
    judged(plugins.load_annotator(settings), *TEXTS)
  place = f"config.annotator.function: {tmp_path / 'mine.py'}:3: mine gave "
  assert str(e.value).startswith(place)
  if kind == "rewards" and value == "float('nan')":
    assert "gave a reward of nan for response 1" in str(e.value)
  elif many and value != "float('nan')":
    assert GIVEN[value].replace(",", " in place 1,") in str(e.value)
  else:
    assert GIVEN[value] in str(e.value)
  assert not [w for w in recwarn if "awaited" in str(w.message)]


@pytest.mark.parametrize(
  "value",
  ["True", "np.float32(0.25)", "Fraction(1, 4)", "Decimal('0.25')",
   "np.array(0.25)", "jnp.bfloat16(0.25)", "jnp.float32(0.25)", "1"],
)  # fmt: skip
def test_every_kind_of_number_is_one(tmp_path, value):
  text = f"""
from decimal import Decimal
from fractions import Fraction
import jax.numpy as jnp
import numpy as np
def mine(p, a, b):
  return {value}
"""
  want = 1.0 if value in ("True", "1") else 0.25
  settings = settings_of(
    tmp_path, kind="preference", function="mine.py:mine", text=text
  )
  got = judged(plugins.load_annotator(settings), *TEXTS)
  np.testing.assert_array_equal(got, [want, want])


@pytest.mark.parametrize(
  "kind, value, said",
  [
    ("preference", "1.5", "gave 1.5, but P is in [0, 1]"),
    ("batch", "[0.1, -0.5]", "gave -0.5, but P is in [0, 1]"),
    ("batch", "[0.5]", "gave shape (1,), not 2 numbers for 2 pairs"),
    ("batch", "[[0.5], [0.5, 1]]", "gave a list of 1 in place 0, not a number"),
    ("batch", "None", "gave None, not 2 numbers for 2 pairs"),
    ("batch", "{'a': 1}", "gave a dict, not 2 numbers for 2 pairs"),
    ("batch", "(0.5 for _ in a)", "gave a generator, not 2 numbers"),
  ],
)
def test_what_is_no_preference(tmp_path, kind, value, said):
  text = f"def mine(p, a, b):\n  return {value}\n"
  settings = settings_of(
    tmp_path, kind=kind, function="mine.py:mine", text=text
  )
  with pytest.raises(UserError, match=re.escape(f"mine.py:1: mine {said}")):
    judged(plugins.load_annotator(settings), *TEXTS)


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("measures", "[1, 2]", "gave a list of 2, not a dictionary"),
    ("measures", "{'m': [1]}", "gave shape (1,), not 2 numbers for 2 resp"),
    ("measures", "{'m': [1, float('nan')]}", "gave 'm' as nan in place 1"),
    ("measures", "{'m': ['1', '2']}", "gave the text '1' in place 0"),
    ("measures", "{1: [1, 2]}", "gave 1 as a name"),
    ("opponents", "{'o': 'xy'}", "not a list of responses of 'o'"),
    ("opponents", "{'o': ['x']}", "gave 1 responses of 'o' to 2 prompts"),
    ("opponents", "{'o': ['x', None]}", "gave None, not a text"),
    ("opponents", "None", "gave None, not a dictionary"),
    ("report", "None", "gave None, not a list of sections"),
    ("report", "['text']", "gave the text 'text', not a Section"),
  ],
)
def test_measures_opponents_and_reports(tmp_path, key, value, said):
  names = {"measures": "p, r", "opponents": "p", "report": "outcome"}[key]
  text = f"def mine({names}):\n  return {value}\n"
  settings = settings_of(tmp_path, text=text, **{key: "mine.py:mine"})
  call = getattr(plugins.load_plugins(settings), key)
  outcome = Outcome(**dict.fromkeys(Outcome._fields))
  given = {"measures": TEXTS[:2], "opponents": TEXTS[:1], "report": [outcome]}
  with pytest.raises(UserError) as e:
    call(*given[key])
  assert said in str(e.value) and f"{tmp_path / 'mine.py'}:1: " in str(e.value)
  assert "annotator" in str(e.value) or key == "report"
