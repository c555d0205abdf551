"""The run's state machine against random graphs: a naive twin, an oracle, invariants, and broken variants that must be caught."""
