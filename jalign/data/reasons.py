"""Reasons why rows, or parts of rows, are left out, as reports say them."""

# Reason -> its words in a sentence such as "4 with an empty response".
REASONS = {
  "unreadable": "that are not UTF-8 text",
  "json": "that are not JSON",
  "keys": "with a key that comes twice",
  "deep": "that are nested too deeply",
  "columns": "with columns of different lengths",
  "object": "that are not a JSON object",
  "missing": "with a field missing",
  "type": "with a field of the wrong type",
  "unicode": "with broken Unicode",
  "range": "with a number out of range",
  "empty_prompt": "with an empty prompt",
  "empty_response": "with an empty response",
  "identical": "whose two responses are equal",
  "transcript": "that are not a transcript",
  "diverging": "whose transcripts diverge",
  "roles": "whose turns are not a conversation",
  "mismatch": "whose prompt is not that of their conversations",
  "template": "that the chat template refuses",
  "prefix": "whose prompt the chat template changes once a response follows",
  "label": "with a label that is neither true nor false",
  "few": "with fewer than two scored responses",
  "orphan": "whose parents are missing",
  "repeated": "whose id comes twice",
  "tie": "whose scores tie",
  "contradicted": "whose scores contradict the preference",
}

# The same for reasons why a row was used without one of its parts.
PARTS = {
  "unscored": "responses without a score",
  "blank": "empty responses",
  "deleted": "deleted messages",
  "alone": "prompts with fewer than two ranked replies",
}
