"""The living process: arms itself at import, leaves breadcrumbs, changes nothing about how it
dies.
"""
