"""Judges that the library decodes: content decides, and log-probs are exact."""

import functools
import math

import jax
import numpy as np
import pytest

from jalign import data
from jalign.decode import sampler
from jalign.errors import UserError
from jalign.feedback import assess, make_answers
from jalign.feedback.completions import (
  Completion,
  LanguageModel,
  Question,
  ask,
)
from jalign.feedback.counts import Tally
from jalign.feedback.follow_up import (
  conversation,
  from_follow_ups,
  reaction_scores,
)
from jalign.feedback.language_model import from_language_model
from jalign.feedback.local_model import (
  Loaded,
  label_logps,
  local_model,
  scored_after,
)
from jalign.feedback.parsing import letter
from jalign.feedback.prompts import parse_prompt
from tests.feedback.judged import judged
from tests.models.tiny import tiny

GREEDY = sampler(temperature=0.0)


def _loaded(template=None, positions=0):
  return _plain()._replace(template=template, positions=positions)


@functools.cache
def _plain():
  tokenizer = data.train_bpe(["a b c m M thanks no what"] * 3, 262)
  _, model, params = tiny(
    vocab_size=tokenizer.vocab_size,
    hidden_size=16,
    num_hidden_layers=1,
    remat="none",
  )
  return Loaded(model, params, tokenizer, None)


def _model(own, draw=GREEDY, **options):
  options = {"max_new_tokens": 4, "rows": 4} | options
  return local_model(lambda: own, draw, identity={}, **options)


def _question(text, sample=0):
  return Question((("user", text),), sample)


@functools.cache
def _scorer():
  own = _plain()

  @jax.jit
  def score(params, ids):
    hidden = own.model.forward(params, ids)
    logits = hidden[0] @ own.model.head(params).weight.T
    return jax.nn.log_softmax(logits)

  return score


def _logp(own, text, said, end=None, params=None):
  """log p of the tokens of a text after another text, from one whole row.

  With `end`, the token that ends the text counts, too.
  """
  before = [*own.tokenizer.prefix_ids, *own.tokenizer.encode(text)]
  after = [*own.tokenizer.encode(said), *([] if end is None else [end])]
  ids = np.zeros((1, 32), np.int32)
  ids[0, : len(before) + len(after)] = before + after
  params = own.params if params is None else params
  logps = np.asarray(_scorer()(params, ids), np.float64)
  return sum(logps[len(before) + k - 1, t] for k, t in enumerate(after))


def test_a_completion_depends_on_its_question_alone():
  own = _loaded()
  warm = sampler(temperature=1.0)
  texts = ["a", "b c", "what", "no no no", "c"]
  whole = ask(_model(own, warm), [_question(x) for x in texts])
  alone = ask(_model(own, warm), [_question("what")])
  assert alone == [whole[2]]
  other = ask(_model(own, warm, seed=1), [_question(x) for x in texts])
  assert [x.text for x in other] != [x.text for x in whole]


def test_samples_of_a_question_differ_and_share_its_prefill():
  own = _loaded()
  model = _model(own, sampler(temperature=1.0))
  three = ask(model, [_question("a b", k) for k in range(3)])
  assert len({x.text for x in three}) > 1
  prompt = len(own.tokenizer.encode("a b")) + len(own.tokenizer.prefix_ids)
  counts = model.tally.counts()
  assert counts["calls"] == 3 and counts["prompt tokens"] == prompt
  assert counts["completion tokens"] == sum(x.tokens for x in three)
  last = ask(_model(own, sampler(temperature=1.0)), [_question("a b", 2)])
  assert last[0].text == three[2].text


def test_the_limit_of_tokens_cuts_a_completion():
  model = _model(_loaded())
  got = ask(model, [_question(x) for x in ("a", "b c", "no no no", "c")])
  for one in got:
    assert one.tokens <= 4 and (one.tokens == 4 or not one.cut)
  cut = sum(one.cut for one in got)
  assert model.tally.counts()["completions cut"] == cut > 0


def test_a_chat_template_writes_the_question():
  chat = _loaded(data.PLAIN_CHAT)
  (got,) = ask(_model(chat), [_question("a b")])
  (want,) = ask(_model(_loaded()), [_question("user: a b\n\nassistant:")])
  assert got.text == want.text


def test_log_probs_of_labels_are_those_of_the_model():
  """After the prompt and what the model wrote before the last label."""
  own = _loaded()
  got = label_logps(
    own, ["a b ", "c", "c"], ["m so M", "m", "none"], ["m", "M"]
  )
  for known, before in zip(got, ("a b m so ", "c")):
    for label in ("m", "M"):
      want = _logp(own, before, label)
      assert known[label] == pytest.approx(want, abs=1e-4)
  assert got[2] == {}
  # A label of fewer tokens than another one has a log-prob, too.
  (known,) = label_logps(own, ["c"], ["m"], ["m", "b c"])
  assert known["m"] == pytest.approx(_logp(own, "c", "m"), abs=1e-4)
  assert -np.inf < known["b c"] < _logp(own, "c", "b")


def test_a_judge_of_a_local_model_is_soft():
  """P(m) / (P(m) + P(M)) at the first place, from both orders."""
  own = _loaded()

  def complete(questions):
    texts = [question.text for question in questions]
    logps = label_logps(own, texts, ["m"] * len(texts), ["m", "M"])
    return enumerate(Completion("m", label_logps=known) for known in logps)

  model = LanguageModel(complete, {}, Tally(), together=True)
  prompt = parse_prompt("{prompt} {a} {b}")
  judge = from_language_model(model, prompt, letter(), soft=True)
  assert judge.reads_tokens  # so that all processes ask together
  got = judged(judge, ["a"], ["b"], ["c"])
  chance = []
  for text in ("a b c", "a c b"):
    m, other = (math.exp(_logp(own, text, x)) for x in ("m", "M"))
    chance.append(m / (m + other))
  np.testing.assert_allclose(got, [(chance[0] + 1 - chance[1]) / 2], atol=1e-5)


def test_a_question_beyond_the_models_positions():
  own = _loaded(positions=8)
  with pytest.raises(UserError, match="8 positions"):
    ask(_model(own), [_question("a b c m M a b c")])


@pytest.mark.parametrize("options", [{"rows": 0}, {"max_new_tokens": 0}])
def test_options_out_of_range(options):
  with pytest.raises(UserError):
    _model(_loaded(), **options)


def test_scores_after_a_text_end_with_nan():
  own = _loaded()
  (got,) = scored_after(own, ["a b"], [["no", "m"]])
  assert np.isnan(got[1, 1:]).all() and not np.isnan(got[1, 0])
  assert np.nansum(got[0]) == pytest.approx(_logp(own, "a b", "no"), abs=1e-4)


def test_follow_up_likelihood_of_a_calibrated_model_is_the_log_odds():
  """p(thanks | x, y) = sigmoid(2 s(y)), one reaction each way: r = 2 s(y)."""
  s = {"good": 1.3, "bad": -0.4}
  sigmoid = lambda z: 1 / (1 + math.exp(-z))

  def score(prompts, responses, reactions):
    assert reactions == ["thanks", "no"]
    return [
      np.log([[sigmoid(2 * s[y])], [sigmoid(-2 * s[y])]]) for y in responses
    ]

  judge = from_follow_ups(score, ["thanks"], ["no"])
  told = assess(judge, make_answers(["x", "x"], ["good", "bad"]))
  np.testing.assert_allclose(told.numbers("reward"), [2.6, -0.8], atol=1e-12)


def test_reactions_are_averaged_over_their_tokens_and_then_over_their_kind():
  logps = [[-1.0, -3.0], [-4.0, np.nan], [-2.0, -2.0]]
  judge = from_follow_ups(lambda *x: [logps], ["a b", "c"], ["d e"])
  told = assess(judge, make_answers(["x"], ["y"]))
  np.testing.assert_allclose(told.numbers("reward"), [(-2 - 4) / 2 + 2])


def test_the_follow_up_reward_of_a_model_has_its_log_probs():
  """The trap of averaged logits and of a shift by one would show here."""
  own = _loaded()
  positive, negative = ["thanks", "m"], ["no"]
  judge = from_follow_ups(
    reaction_scores(lambda: own, between=" ", rows=6), positive, negative
  )
  prompts, texts = ["a", "b", "c c"], [" m", " M what", " a"]
  told = assess(judge, make_answers(prompts, texts))
  for i, (prompt, text) in enumerate(zip(prompts, texts)):
    mean = lambda f, x=prompt, y=text: (
      _logp(own, f"{x}{y} ", f) / len(own.tokenizer.encode(f))
    )
    want = np.mean([*map(mean, positive)]) - np.mean([*map(mean, negative)])
    assert told.numbers("reward")[i] == pytest.approx(want, abs=1e-4)


def test_a_reaction_is_the_next_turn_of_the_user():
  own = _loaded(data.PLAIN_CHAT)
  got = conversation(own, "hello", "hi")
  assert got == "user: hello\n\nassistant: hi\n\nuser: "


@pytest.mark.parametrize("sides", [([], ["a"]), (["a"], []), ([""], ["a"])])
def test_reactions_must_be_of_both_kinds(sides):
  with pytest.raises(UserError):
    from_follow_ups(lambda *x: [], *sides)
