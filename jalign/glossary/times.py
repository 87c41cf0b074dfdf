"""Rows of the times that a training step takes."""

from jalign.glossary.row import Row

TIMES: tuple[Row, ...] = (
  Row(
    "time/step_seconds",
    "seconds",
    "wall-clock time of a step, without evaluations",
    "training.loop",
  ),
  Row(
    "time/sampling_seconds",
    "seconds",
    "of an online step: waiting for the responses",
    "online.iterate",
  ),
  Row(
    "time/judging_seconds",
    "seconds",
    "of an online step: asking the judge",
    "online.iterate",
  ),
  Row(
    "time/reference_seconds",
    "seconds",
    "of an online step: log-probs under the reference that are recorded",
    "online.iterate",
  ),
  Row(
    "time/critic_seconds",
    "seconds",
    "of an online step: the critic's values of the responses, and waiting for"
    " other scores of them",
    "online.iterate",
  ),
  Row(
    "time/update_seconds",
    "seconds",
    "of an online step: waiting for the updates of the step before",
    "online.iterate",
  ),
  Row(
    "time/sampled_tokens_per_second",
    "tokens_per_second",
    "of an online step: sampled tokens over the seconds of waiting for them; a"
    " line of several steps has the mean of their rates",
    "online.iterate",
  ),
)
