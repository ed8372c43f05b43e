"""The embedded base models and the programs that made them: small world, corpus, tokenizer, pre-training."""
