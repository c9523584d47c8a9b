"""What can be computed without training: the loss landscape, and the gradient flow of simple worlds."""
