"""The contenders, each as a program of its own: ``driving`` is what they have in common.

A peer's program runs in the peer's environment, where nothing of Graflow is installed. So these modules import the standard library, the one
library that they measure, and each other as the plain files next to them.
"""
