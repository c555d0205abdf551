"""Processes and the runner inside of them."""
