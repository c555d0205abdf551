"""How fast Graflow is, beside the same work without it: ``python -m benchmarks local``."""
