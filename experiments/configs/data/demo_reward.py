"""The order desk: a small world of customer notes, and its reward.

A prompt is a note, "Dana in Lisbon wants 3 red lamps.", and a good response
confirms the order with the right facts, politely, in one or two sentences:

  Thank you, Dana! We will send 3 red lamps to Lisbon.

`reward` sees only the two texts, and adds up what a reader notices at once:

  +6.0  facts: 1.5 for each of count, colour, item and city, if the response
        states the right value and no other value
  +2.0  polite: the response thanks the customer by name
  -2.0  rude: a sigh, a complaint or an order to the customer
  -0.25 for each word beyond 13, at most -2
  -1.0  the response does not end with a full stop, or says something twice

so that the reward is in [-5, 8].
"""

import re

NAMES = (
  "Ana",
  "Ben",
  "Dana",
  "Emil",
  "Grace",
  "Ivan",
  "Kofi",
  "Lena",
  "Mira",
  "Omar",
  "Rosa",
  "Tom",
)
CITIES = (
  "Cairo",
  "Delhi",
  "Lagos",
  "Lima",
  "Lisbon",
  "Oslo",
  "Paris",
  "Quito",
  "Rome",
  "Tokyo",
)
COUNTS = ("2", "3", "4", "5", "6", "7", "8", "9")
COLOURS = ("black", "blue", "green", "grey", "pink", "red", "white", "yellow")
ITEMS = ("bags", "books", "chairs", "clocks", "cups", "hats", "kites", "lamps")
FACTS = {"count": COUNTS, "colour": COLOURS, "item": ITEMS, "city": CITIES}

THANKS = ("thank", "thanks")
RUDE = ("again?", "bother", "fine,", "hurry", "ugh", "whatever")
FREE_WORDS = 13

_WORD = re.compile(r"[A-Za-z]+|[0-9]+")


def facts(text: str) -> dict[str, set[str]]:
  """Returns the values of each fact that a text states."""
  words = set(_WORD.findall(text))
  return {kind: words & set(values) for kind, values in FACTS.items()}


def correctness(prompt: str, response: str) -> float:
  """Returns the share of a note's four facts that a response states rightly.

  Args:
    prompt: a note that states one value of each fact.
    response: any text.

  Returns:
    0, 0.25, ... or 1.
  """
  wanted, stated = facts(prompt), facts(response)
  return sum(stated[kind] == wanted[kind] for kind in FACTS) / len(FACTS)


def polite(prompt: str, response: str) -> bool:
  """Whether the response thanks the customer by name."""
  words = _WORD.findall(response)
  names = set(_WORD.findall(prompt)) & set(NAMES)
  thanks = any(word.lower() in THANKS for word in words)
  return thanks and set(words) & set(NAMES) == names


def rude(response: str) -> bool:
  """Whether the response sighs, complains or gives orders."""
  text = response.lower()
  return any(re.search(rf"(?<!\w){re.escape(word)}", text) for word in RUDE)


def reward(prompt: str, response: str) -> float:
  """Scores a response to a note, as the beginning of this file says.

  Args:
    prompt: a note of the order desk.
    response: any text.

  Returns:
    A number in [-5, 8], the higher the better.
  """
  words = response.split()
  sentences = [s.strip() for s in re.split(r"[.!?]", response) if s.strip()]
  # A fact may be stated once; "3 red lamps red lamps" repeats two facts.
  known = [w for w in _WORD.findall(response) if w in _KNOWN]
  repeats = len(set(sentences)) < len(sentences)
  repeats |= len(set(known)) < len(known)
  score = 6.0 * correctness(prompt, response)
  score += 2.0 * polite(prompt, response)
  score -= 2.0 * rude(response)
  score -= min(0.25 * max(len(words) - FREE_WORDS, 0), 2.0)
  score -= 1.0 * (repeats or not response.rstrip().endswith("."))
  return round(score, 3)


_KNOWN = {*NAMES, *CITIES, *COUNTS, *COLOURS, *ITEMS}
