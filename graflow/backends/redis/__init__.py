"""The distributed backend: queues, runs, channels and barriers on a Redis server that many processes share."""
