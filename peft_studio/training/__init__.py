"""Heavy work, in worker processes only: loading, training, evaluation, generation, estimates."""
