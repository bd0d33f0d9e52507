"""What Zope publishes of the panel: lists in tests are compared with this."""

from collections.abc import Iterator

from Products.StabilityMonitor.zmi.controlpanel import StabilityMonitor


def published() -> dict[str, object]:
    """Return {name: True, or the HTTP methods for which alone it is published}."""
    return dict(_published())


def pages() -> set[str]:
    """Return the names of the pages: what a browser may GET and shows in Zope's frame."""
    return {
        name
        for name, methods in published().items()
        if methods is True and name.startswith('manage_') and name != 'manage_workspace'
    }


def _published() -> Iterator[tuple[str, object]]:
    for cls in StabilityMonitor.__mro__:
        if cls.__module__.startswith('Products.StabilityMonitor'):
            for name, value in vars(cls).items():
                methods = getattr(value, '__zpublishable__', None)
                if methods and not name.startswith('_'):
                    yield name, methods
