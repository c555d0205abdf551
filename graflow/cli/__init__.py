"""The commands: ``graflow run``, ``graflow graph``, ``graflow demo``."""
