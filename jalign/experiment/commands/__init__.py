"""The commands beside `train`: what is done with runs that are there."""
