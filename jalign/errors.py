"""The one exception that a user can cause and mend."""

import textwrap


class UserError(ValueError):
  """Bad input: the message says what was wrong, where, and what to do.

  One paragraph, no stack trace needed: the command line prints it alone and
  exits with code 2. `where` is a file and line, a config key or a params path.
  """

  def __init__(self, problem: str, *, where: str = "", remedy: str = ""):
    parts = [f"{where}: {problem}" if where else problem, remedy]
    super().__init__(" ".join(part for part in parts if part))
    self.problem, self.where, self.remedy = problem, where, remedy

  def paragraph(self, program: str) -> str:
    """What a command prints of it, in lines of at most 79 characters."""
    return textwrap.fill(
      f"{program}: error: {' '.join(str(self).split())}",
      79,
      break_long_words=False,  # paths stay whole
      break_on_hyphens=False,
    )
