"""Measures how varied a policy's responses are."""

from collections.abc import Sequence


def distinct_n(texts: Sequence[str], n: int) -> float:
  """Different n-grams of words as a share of all n-grams.

  Li et al. 2016, "A Diversity-Promoting Objective Function for Neural
  Conversation Models", arXiv:1510.03055, section 5. The share falls as texts
  are added, so compare equal numbers of texts.

  Args:
    texts: responses; words are cut at white space.
    n: words of an n-gram, at least 1.

  Returns:
    A share in [0, 1]; NaN if no text has n words.
  """
  grams = [
    tuple(words[i : i + n])
    for words in (text.split() for text in texts)
    for i in range(len(words) - n + 1)
  ]
  return len(set(grams)) / len(grams) if grams else float("nan")
