"""Drawings are read back: what is drawn is the graph, whatever its nodes are called."""
