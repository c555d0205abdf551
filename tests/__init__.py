"""The test suite. A package, so that tests find their own helpers and not another distribution's ``tests``."""
