"""Policy gradients: losses whose gradients estimate an expected reward's."""
