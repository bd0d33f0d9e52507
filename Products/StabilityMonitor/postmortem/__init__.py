"""The next process: finds dead runs, collects evidence, judges, archives.  Never imports
`recording`.
"""
