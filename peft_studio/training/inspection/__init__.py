"""What an adapter did to its model: how weights changed, what was added, what a model forgot. In the engine only."""
