"""Graflow by example: every rule of ``docs/semantics.md`` as a small program.

Whoever is new to Graflow may read this folder from top to bottom; each file opens with what it is about, and each test
is one sentence, a graph, and what came of it:

1. ``test_edges_and_joins.py``: what runs after what, and what happens when something is skipped or fails
2. ``test_loops.py``: going round
3. ``test_goto.py``: going elsewhere
4. ``test_directives.py``: all else that a task may ask of its run
5. ``test_groups.py``: side by side, and when a group has failed
6. ``test_maps.py``: a task for each item of a list
7. ``test_failure_and_suspension.py``: going on after a failure, and waiting for an answer from outside
8. ``test_arguments.py``: where the parameters of a task come from
9. ``test_results.py``: what a run leaves behind, and when it is over
10. ``test_channels.py``: what the tasks of a run share
11. ``test_isolation.py``: what runs do not share
12. ``test_surprising_and_right.py``: what follows from the rules and may surprise all the same
13. ``test_faults_of_the_past.py``: what an earlier Graflow got wrong

The first line of a docstring says which rule a test is about; ``test_every_rule.py`` sees to it that none is left out.
Two fixtures appear everywhere. ``log`` is a list of what was visited, in order. ``steps("a b c")`` makes tasks of these
ids that do nothing but write their id into ``log`` and return it: they stand for any task whose inside does not matter.
"""
