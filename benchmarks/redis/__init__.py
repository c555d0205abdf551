"""Graflow on Redis beside task queues and a bare worker: ``python -m benchmarks redis``."""
