"""Follow-up likelihood as a reward: would the user be content?

A language model says how likely a user is to go on with a positive reaction
rather than with a negative one.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge, checked_scale
from jalign.feedback.local_model import (
  ROWS,
  Loaded,
  parts_of,
  rendered,
  scored_after,
)

# (prompts, responses, reactions) -> for each response, log-probs [F, C] of the
# reactions' tokens, NaN beyond a reaction's end
Score = Callable[
  [Sequence[str], Sequence[str], Sequence[str]], Sequence[ArrayLike]
]
_MARK = "jalign-reacts-so"


def from_follow_ups(
  score: Score,
  positive: Sequence[str],
  negative: Sequence[str],
  *,
  scale: float = 1.0,
  together: bool = False,
) -> Judge:
  """Makes a judge from the likelihood of a user's reactions to a response.

  r(x, y) = mean_{f in positive} 1/|f| log p(f | x, y) - the same over negative

  Zhang et al. 2024, "Aligning Language Models Using Follow-up Likelihood as
  Reward Signal", arXiv:2409.13948. Log-probs are used, as the paper's formula
  has it, each of a token given all before it. If p(f | x, y) of one reaction
  each way is calibrated, sigmoid(2 s(x, y)) against sigmoid(-2 s(x, y)), then r
  is 2 s: the log-odds of a content user.

  Args:
    score: `(prompts, responses, reactions) -> log-probs` of the reactions'
      tokens after each response; [N] arrays [F, C] with NaN beyond the end of
      a reaction, such as `reaction_scores` gives.
    positive: reactions of a content user.
    negative: reactions of a user who isn't content.
    scale: inverse temperature of the preferences, > 0.
    together: whether all processes must ask together, as `reaction_scores`
      does.

  Raises:
    UserError: there are no reactions of either kind, or one is empty.
  """
  reactions = [*positive, *negative]
  if not positive or not negative or not all(reactions):
    raise UserError(
      "there must be positive and negative reactions, and none may be empty.",
      where="reactions",
      remedy="Write at least one of each kind.",
    )

  def reward(answers: Answers) -> np.ndarray:
    logps = score(answers.prompts, answers.texts, reactions)
    means = np.array([np.nanmean(np.asarray(x), -1) for x in logps])
    split = len(positive)
    return means[:, :split].mean(1) - means[:, split:].mean(1)

  # The model is on the run's mesh: all processes ask together.
  return Judge(reward=reward, scale=checked_scale(scale), reads_tokens=together)


def reaction_scores(
  load: Callable[[], Loaded], *, between: str = "\n\n", rows: int = ROWS
) -> Score:
  """Makes a `Score` of a language model on the run's own devices.

  The reactions to a response share the prefill of the conversation.

  Args:
    load: `() -> Loaded`, called when the model is first asked.
    between: text between the response and the reaction, where the model has no
      chat template. With a template, the reaction is the user's next turn.
    rows: number of reactions that are scored at a time.
  """
  loaded: list[Loaded] = []

  def score(
    prompts: Sequence[str], responses: Sequence[str], reactions: Sequence[str]
  ) -> list[np.ndarray]:
    if not loaded:
      loaded.append(load())
    own = loaded[0]
    before = [
      conversation(own, prompt, response, between)
      for prompt, response in zip(prompts, responses, strict=True)
    ]
    found: list[np.ndarray] = [np.empty(0)] * len(before)
    size = max(rows // len(reactions), 1)
    for part in parts_of([len(text) for text in before], size):
      said = [list(reactions)] * len(part)
      logps = scored_after(own, [before[i] for i in part], said)
      for i, values in zip(part, logps):
        found[i] = values
    return found

  return score


def conversation(
  own: Loaded, prompt: str, response: str, between: str = "\n\n"
) -> str:
  """The text of a prompt and a response, up to where the user reacts.

  Args:
    own: the model, whose chat template writes the turns.
    prompt: text of the prompt.
    response: text of the response.
    between: text after the response where there is no template.

  Raises:
    UserError: the template refuses the conversation.
  """
  if own.template is None:
    return prompt + response + between
  turns = (("user", prompt), ("assistant", response), ("user", _MARK))
  chat = [{"role": role, "content": text} for role, text in turns]
  text = rendered(own.template, chat, prompt=False)
  before, mark, _ = text.rpartition(_MARK)
  if not mark:
    raise UserError(
      "the chat template doesn't write a second turn of the user as it is.",
      where="template",
      remedy="Give another template, or none.",
    )
  return before
