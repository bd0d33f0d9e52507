"""The living process: it starts to record at import, leaves breadcrumbs, and does not change how
the process dies.
"""
