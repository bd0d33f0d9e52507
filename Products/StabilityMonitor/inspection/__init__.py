"""Inspection of other processes: stacks from outside, native stacks, the recursion probe."""
