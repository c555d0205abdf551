"""What runs inside of a child, be it a process or a container: a single text, of the standard library alone.

The modules here are sent to the child as they are, in the order of :data:`graflow.handlers.shipping.PARTS`, and run there under these
names whether or not Graflow is installed. So they import nothing else of Graflow at their top, and nothing that Python does not bring along.
"""
