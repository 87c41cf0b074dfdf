"""What a run would need on given devices: its programs, compiled ahead of time.

`jalign plan` compiles the programs of a config for a topology of TPUs or GPUs
that need not be at hand, and reads memory, operations and collectives from what
the compiler made. No data are read and nothing runs.
"""
