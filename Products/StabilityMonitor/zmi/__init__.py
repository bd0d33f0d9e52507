"""The tab, the event subscribers and the settings of Zope.

Only this package and the product's own `__init__` need Zope.
"""
