"""The language and the pure model of a run: no I/O, no asyncio."""
