"""Posts, exact attributes and rewards: by hand on a post, and on many."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jalign.data import tldr_world as world
from jalign.data.tldr_world import language
from jalign.errors import UserError

POST = (
  "post: importantly anna sold bikes online . what a cold week ."
  " ben found hats today . notably carla hid maps twice . tl;dr: "
)


def _of(text):
  return world.attributes([POST], [text])


def test_a_post_is_read_back_as_it_was_made():
  for i in range(300):
    post = world.post(i)
    assert world.read_post(post.text) == post
    assert len(post.salient) in (2, 3) and len(post.others) in (1, 2)
    assert len(post.text.split()) <= 46
    for part in ("name", "verb", "object", "detail"):
      assert len({getattr(f, part) for f in post.facts}) == len(post.facts)


def test_words_have_one_meaning_each():
  words = world.vocabulary()
  parts = (language.NAMES, language.VERBS, language.OBJECTS, language.DETAILS)
  special = (*language.CUES, *language.FILLER, language.STOP)
  flat = [w for part in (*parts, special, language.ADJECTIVES) for w in part]
  assert len(flat) == len(set(flat)) and set(flat) <= set(words)
  seen = {w for i in range(2000) for w in world.post(i).text.split()}
  assert seen | set(language.FILLER) == set(words)


@pytest.mark.parametrize(
  "text, expected",
  [
    # (grammatical, coverage, hallucinations, redundant, filler, words,
    #  sourced, clauses)
    ("anna sold bikes . carla hid maps .", (1, 1, 0, 0, 0, 8, 0, 2)),
    ("anna sold bikes online .", (1, 0.5, 0, 0, 0, 5, 1, 1)),
    ("anna sold bikes today .", (1, 0, 1, 0, 0, 5, 0, 1)),  # a wrong detail
    ("anna sold hats .", (1, 0, 1, 0, 0, 4, 0, 1)),
    ("ben found hats . ben found hats .", (1, 0, 0, 2, 0, 8, 0, 2)),
    ("anna sold bikes . anna sold bikes .", (1, 0.5, 0, 1, 0, 8, 0, 2)),
    (
      "it seems that anna sold bikes . carla hid maps twice .",
      (1, 1, 0, 0, 1, 12, 0.5, 2),
    ),
    ("anna sold bikes", (0, 0, 0, 0, 0, 3, 0, 0)),
    ("anna sold bikes . sold anna .", (0, 0.5, 0, 0, 0, 7, 0, 1)),
    ("it seems anna sold bikes .", (0, 0, 0, 0, 0, 6, 0, 0)),
    ("", (0, 0, 0, 0, 0, 0, 0, 0)),
    ("unknown words !", (0, 0, 0, 0, 0, 3, 0, 0)),
  ],
)
def test_attributes_by_hand(text, expected):
  values = tuple(float(x[0]) for x in _of(text))
  assert values == pytest.approx(expected)


def test_rewards_and_costs_by_hand():
  # 3 x 1 - 0.05 x 8; 3 x 1/2 - 1.5 - 0.3 - 0.05 x 12; -3 - 0.05 x 3
  texts = (
    "anna sold bikes . carla hid maps .",
    "it seems that anna sold bikes . ben sold hats today .",
    "anna sold bikes",
  )
  rewards = [world.gold_reward(POST, text) for text in texts]
  np.testing.assert_allclose(rewards, [2.6, -0.9, -3.15])
  costs = [world.gold_cost(POST, text) for text in texts]
  np.testing.assert_allclose(costs, [-0.5, 0.5, 0.5])


words = st.sampled_from([*world.vocabulary(), "nonsense"])


@hypothesis.given(
  st.lists(
    st.one_of(
      words,
      st.sampled_from(
        ["anna sold bikes .", "ben found hats today .", "it seems that"]
      ),
    ),
    max_size=9,
  ).map(" ".join)
)
def test_segments_cover_the_text_and_sum_to_the_reward(text):
  segments = world.segment_rewards(POST, text)
  assert segments[0].start == 0 and segments[-1].stop == len(text.split())
  assert all(a.stop == b.start for a, b in zip(segments, segments[1:]))
  total = sum(segment.reward for segment in segments)
  assert total == pytest.approx(world.gold_reward(POST, text))
  ends = [end for end, _ in world.gold_segments(POST, text)]
  for segment, end in zip(segments, ends):
    assert len(text[:end].split()) == segment.stop
    assert text[end : end + 1] in ("", " ")


def test_a_prompt_that_is_no_post_is_refused():
  for text in ("hello", "post: so cold here . tl;dr: ", ""):
    with pytest.raises(UserError, match="TL;DR|salient"):
      world.gold_reward(text, "anna sold bikes .")


def test_demonstrations_have_the_frozen_shares():
  kinds, texts, posts = [], [], []
  for i in range(4000):
    post = world.post(i)
    kind, text = world.sample_demonstration(post, language.rng(9, i))
    kinds.append(kind)
    texts.append(text)
    posts.append(post.text)
  of = world.attributes(posts, texts)
  assert of.grammatical.all() and of.words.max() <= 23
  kinds = np.array(kinds)
  for kind, share in world.SHARES.items():
    error = 4 * np.sqrt(share * (1 - share) / len(kinds))
    assert abs(np.mean(kinds == kind) - share) < error
  faults = {
    "good": (of.coverage == 1) & (of.hallucinations + of.redundant == 0),
    "verbose": (of.redundant + of.filler > 0) & (of.hallucinations == 0),
    "incomplete": (of.coverage < 1) & (of.hallucinations == 0),
    "hallucinating": of.hallucinations == 1,
  }
  for kind, holds in faults.items():
    # A verbose summary that was cut to its length may lack its extra words.
    assert holds[kinds == kind].mean() > (0.97 if kind == "verbose" else 0.999)
  assert (
    dict(good=0.15, verbose=0.30, incomplete=0.20, hallucinating=0.35)
    == world.SHARES
  )
  true = 1 - of.hallucinations.sum() / of.clauses.sum()
  assert true == pytest.approx(0.861, abs=0.01)


def test_archetypes_are_what_they_are_called():
  names = list(world.ARCHETYPES)
  for i in range(200):
    post = world.post(i)
    texts = [world.archetype(name, post) for name in names]
    of = world.attributes([post.text] * len(names), texts)
    n = len(post.salient)
    row = dict(zip(names, map(of._make, np.stack(of, 1))))
    assert of.grammatical.all() and of.words.max() <= 23
    assert row["complete plain"].coverage == 1
    assert row["complete plain"].sourced == 0
    assert row["complete sourced"].sourced == 1
    assert row["all but one sourced"].coverage == pytest.approx((n - 1) / n)
    assert row["complete with filler"].filler == 1
    assert row["complete repeated"].redundant == 1
    for name in names:
      assert row[name].hallucinations == ("one false" in name)
