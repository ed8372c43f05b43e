"""A faster forward pass for frozen Llama-like decoders."""
