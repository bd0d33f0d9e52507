"""The only room that knows Zope: the tab, the event subscribers, zope.conf."""
