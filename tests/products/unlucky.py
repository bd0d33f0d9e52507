"""A product that fails as the variable UNLUCKY says, at import or when it is initialized, or that
waits there.
"""

import os
import threading


def _fail(when):
    what, _, moment = os.environ.get('UNLUCKY', '').partition('-')
    if moment != when:
        return
    if what == 'exit':
        raise SystemExit('an unlucky product leaves')
    if what == 'wait':
        with open(os.environ['UNLUCKY_SIGN'], 'w'):
            threading.Event().wait()
    raise LookupError('an unlucky product')


_fail('import')


def initialize(context):
    _fail('initialize')
