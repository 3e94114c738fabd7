"""A run: its state, the loop around a recipe, measures, alarm, callbacks, checkpoints."""
