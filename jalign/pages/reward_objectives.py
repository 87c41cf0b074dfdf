"""What a report says of a score head of several objectives."""

from jalign.evaluation.several_scorers import Objectives
from jalign.pages.contents import Content, Table, with_ends


def objectives_content(found: Objectives) -> list[Content]:
  """Tables of accuracies and correlations, with a text that explains them."""
  accuracies = []
  for name, count, share in zip(found.names, found.pairs, found.accuracy):
    low, high = (100 * x for x in share.interval)
    said = with_ends(100 * share.mean, low, high, unit=" %")
    accuracies.append((name, int(count), said))
  across = [
    (name, *(f"{100 * x:.1f} %" for x in row))
    for name, row in zip(found.names, found.across)
  ]
  alike = [
    (name, *(f"{x:.2f}" for x in row))
    for name, row in zip(found.names, found.correlation)
  ]
  labels = [
    (name, *("" if x != x else f"{x:.2f}" for x in row))
    for name, row in zip(found.names, found.labelled)
  ]
  return [
    Table(("objective", "labelled pairs", "accuracy"), accuracies),
    "Accuracy of each objective's scores on its own labels, with 95 % intervals"
    " clustered by prompt. Below: accuracy of a row's scores on a column's"
    " labels; correlation of the differences of two objectives' scores; and"
    " that of their labels, over pairs that both label. Correlations are over"
    " both orders of each pair.",
    Table(("scores of, on labels of", *found.names), across),
    Table(("correlation of scores", *found.names), alike),
    Table(("correlation of labels", *found.names), labels),
  ]
