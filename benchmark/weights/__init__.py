"""Reads weights and computes features of them: statistics, distances and pair scores.

In the order of import: ``layers`` selects tensors by name; ``checkpoint``, ``model_set`` and ``discovery`` open
models; ``combine`` combines results of tensors; ``streaming`` computes features of one tensor within a memory
budget; ``engine`` sets the budget and the workers; ``result_cache`` stores results; ``features`` computes
features of all tensors with all of these.
"""
