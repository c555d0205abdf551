"""The Redis backend against real servers of several versions, which the tests start themselves."""
