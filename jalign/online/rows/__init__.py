"""Rows of the table of online algorithms, by what they learn from."""
