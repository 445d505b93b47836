"""Training: one step, its optimizers, the guard beside it, the checkpoint behind it, the loop."""
