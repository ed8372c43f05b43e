"""How rows of text become tensors for each kind of model."""
