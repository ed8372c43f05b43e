"""Which base models there are, what is where inside them, and the weights that come with the project. Torch-free."""
