"""Pretraining, one step a module: what is read, what is trained, how it went."""
