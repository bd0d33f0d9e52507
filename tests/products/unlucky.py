"""A product that fails as the variable UNLUCKY says: at import or when it is initialized."""
import os


def _fail(when):
    if os.environ.get('UNLUCKY') == f'exit-{when}':
        raise SystemExit('an unlucky product leaves')
    if os.environ.get('UNLUCKY') == when:
        raise LookupError('an unlucky product')


_fail('import')


def initialize(context):
    _fail('initialize')
