"""Points at which runs are killed: a function, its n-th call, and when in it.

`driver.py` replaces these functions in a process of its own.
"""

from typing import Any, NamedTuple


class Point(NamedTuple):
  """A place in a run.

  Attributes:
    target: "module:name" or "module:Class.method".
    call: number of the call in which to die; 1 is the first.
    when: "before" the call, "after" it, "inside" it (with half of it done), or
      "result": in a call of the function that it returns.
    about: only calls with this text in their arguments count.
    of_result: like `when`, for the returned function of "result".
    modes: kinds of runs that call the target.
  """

  target: str
  call: int = 1
  when: str = "before"
  about: str = ""
  of_result: str = "before"
  modes: tuple[str, ...] = ("offline", "online")

  def to_dict(self) -> dict[str, Any]:
    return self._asdict()


_ORBAX = "orbax.checkpoint._src"
_COMMIT = f"{_ORBAX}.path.atomicity:AtomicRenameTemporaryPath.finalize"
_DELETE = f"{_ORBAX}.path.deleter:StandardCheckpointDeleter.delete"
_SAVE = "jalign.training.checkpoint:Checkpoints.save"
_WRITE = "jalign.files:write_whole"
_SAMPLE = "jalign.experiment.sampling:sample_texts"
_ROW = "jalign.training.metrics:JsonlWriter.write"

POINTS = {
  # The folder's own files.
  "after the lock": Point("jalign.experiment.disk.lock:_take", when="after"),
  "half of config.json": Point(_WRITE, when="inside", about="config.json"),
  "half of made_of.json": Point(_WRITE, when="inside", about="made_of.json"),
  "between config.json and run.json": Point(
    _WRITE, when="after", about="config.json"
  ),
  "half of tokenizer.json": Point(
    _WRITE, when="inside", about="/tokenizer.json"
  ),
  "half of tokenizer_config.json": Point(
    _WRITE, when="inside", about="tokenizer_config.json"
  ),
  "half of data.json": Point(_WRITE, when="inside", about="data.json"),
  # Training.
  "judging the start": Point(_SAMPLE),
  "inside the first step": Point(
    "jalign.training.step:make_update", when="result", of_result="after"
  ),
  "inside a later step": Point(
    "jalign.training.step:make_update",
    when="result",
    of_result="after",
    call=4,
  ),
  "half of a row of metrics": Point(_ROW, call=4, when="inside"),
  "between step and save": Point(_SAVE, call=2, about="/checkpoints"),
  "just after a save has begun": Point(
    _SAVE, call=2, about="/checkpoints", when="after"
  ),
  # A checkpoint: its temporary folder, its manifest, its rename, the next.
  "its first item written": Point(
    f"{_ORBAX}.handlers.standard_checkpoint_handler:"
    "StandardCheckpointHandler.finalize",
    call=4,
  ),
  "before the manifest": Point(
    "jalign.training.manifest:write", call=2, about="/checkpoints/"
  ),
  "half of the manifest": Point(
    _WRITE, call=2, when="inside", about="manifest.json"
  ),
  "before the rename": Point(_COMMIT, about='final="4"'),
  "after the rename": Point(_COMMIT, about='final="4"', when="after"),
  "half of an old one deleted": Point(_DELETE, when="inside"),
  # Evaluation.
  "held-out loss": Point(
    "jalign.training.objective:make_evaluation",
    when="result",
    call=5,
    modes=("offline",),
  ),
  "held-out samples": Point(_SAMPLE, call=4, modes=("online",)),
  "between the first best state and its metrics": Point(
    _SAVE, when="after", about="/best"
  ),
  "between a best state and its metrics": Point(
    _SAVE, call=2, when="after", about="/best", modes=("offline",)
  ),
  "judging a finished stage": Point("jalign.experiment.tables:summary", call=2),
  "half of results.json": Point(_WRITE, when="inside", about="results.json"),
  # A stage that two runs of a sweep have in common.
  "before a stage is shared": Point(
    "jalign.experiment.share:_copy", modes=("sweep",)
  ),
  "half of a shared stage": Point(
    "jalign.experiment.share:_link", call=20, modes=("sweep",)
  ),
  "after a stage is shared": Point(
    "jalign.experiment.share:_copy", when="after", modes=("sweep",)
  ),
  # References.
  "reference log-probs": Point(
    "jalign.training.reference:compute", modes=("offline",)
  ),
  "half of reference_logps.npz": Point(
    _WRITE, when="inside", about="reference_logps.npz", modes=("offline",)
  ),
  # Sampling online.
  "decoding": Point(
    "jalign.decode.generate:generate", call=9, modes=("online",)
  ),
  "annotating": Point(
    "jalign.feedback.rewards:compare", call=4, modes=("online",)
  ),
  # The report.
  "plots": Point("jalign.pages.plots:plot_metrics", when="after"),
  "half of report.md": Point(_WRITE, when="inside", about="report.md"),
}
