"""Critiques of summaries, written from what is true of each clause."""

from jalign.data.tldr_world.summary import read_summary

_ORDINALS = ("one", "two", "three", "four", "five")


def critique(post: str, summary: str) -> str:
  """What is wrong with a summary: false clauses, and missing salient facts.

  Args:
    post: text of the post.
    summary: any text.

  Returns:
    Phrases such as "clause two is false .", and "nothing is false ." where no
    clause is; how many clauses state a new salient fact; and whether the text
    is grammatical.

  Raises:
    UserError: `post` is no post of the world.
  """
  clauses, grammatical = read_summary(post, summary)
  said = [
    f"clause {_ORDINALS[min(i, 4)]} is false ."
    for i, clause in enumerate(clauses)
    if not clause.true
  ] or ["nothing is false ."]
  new = sum(clause.new for clause in clauses)
  said.append(f"{('none', *_ORDINALS)[min(new, 5)]} salient .")
  if not grammatical:
    said.append("not grammatical .")
  return " ".join(said)
