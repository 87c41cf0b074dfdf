"""The files that a run keeps on disk, and what the run starts from."""
