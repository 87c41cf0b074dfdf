"""Judges that are language models of runs, trained on verdicts or rewrites."""

from collections.abc import Iterable

from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.experiment.judges.language_model import folder_of, loading
from jalign.experiment.judges.model import fingerprint
from jalign.feedback import Judge
from jalign.feedback.local_model import ROWS
from jalign.feedback.trained_judges import from_rewrites, from_verdicts


def _make_generative(named: Named, *, rows: int = ROWS) -> Judge:
  return from_verdicts(loading(named, "none"), rows=rows)


def _make_seq2seq(named: Named, *, rows: int = ROWS) -> Judge:
  return from_rewrites(loading(named, "none"), scale=named.scale, rows=rows)


def _made_of(named: Named, **settings: object) -> Iterable[str]:
  del settings
  return [fingerprint(folder_of(named))]


TRAINED: dict[str, JudgeKind] = {
  "generative": JudgeKind(
    "a run or a checkpoint that was trained with data.convert='verdicts'; the"
    " probability of its verdict, the mean of both orders",
    _make_generative,
    _made_of,
  ),
  "seq2seq": JudgeKind(
    "a run or a checkpoint that was trained with data.convert='rewrites'; the"
    " sum of +1 and -1 over the length for tokens that it would and wouldn't"
    " write itself, which is our parametrisation (arXiv:2409.00162)",
    _make_seq2seq,
    _made_of,
  ),
}
