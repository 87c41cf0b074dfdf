"""Configs of the sizes at which programs are planned: `jalign plan`.

They are configs like others: with data and a checkpoint `jalign train` runs
them.
"""
