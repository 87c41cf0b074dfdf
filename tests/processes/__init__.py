"""Runs of several processes on one machine, joined over the loopback."""
