"""Known issues: the rules, and whether they apply to a system or to how a run ended."""
