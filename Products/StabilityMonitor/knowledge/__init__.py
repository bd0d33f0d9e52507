"""Known issues: the rules, and whether they apply to a system or to a run that has ended."""
