"""Ten compiled modules that every request uses a little; none of them does anything wrong."""

import io

import cffi
import greenlet
import numpy
import orjson
import psycopg2.extensions
import rpds
from cryptography.hazmat.primitives import hashes
from lxml import etree
from PIL import Image
from pydantic_core import SchemaValidator
from pydantic_core import core_schema

_validator = SchemaValidator(core_schema.int_schema())
_ffi = cffi.FFI()


def use_all():
    page = etree.fromstring('<page><title>Welcome</title></page>')
    image = Image.new('RGB', (8, 8), 'red')
    image.save(io.BytesIO(), 'PNG')
    digest = hashes.Hash(hashes.SHA256())
    digest.update(etree.tostring(page))
    buffer = _ffi.new('char[]', digest.finalize())
    numbers = numpy.arange(100).reshape(10, 10)
    document = orjson.dumps({'sum': int((numbers @ numbers).sum()), 'size': _ffi.sizeof(buffer)})
    greenlet.greenlet(orjson.loads).switch(document)
    rpds.HashTrieMap({'title': psycopg2.extensions.adapt("it's")})
    return _validator.validate_python('42')
