"""What is recorded of the databases in zope.conf, and that no password is among it."""

from io import StringIO
from types import SimpleNamespace

import pytest

from Products.StabilityMonitor.model.siteparts import ConfiguredDatabase

pytestmark = [pytest.mark.zope, pytest.mark.in_process]

ZOPE_CONF = """
instancehome {home}
<zodb_db main>
  <filestorage>
    path {home}/Data.fs
  </filestorage>
  mount-point /
  cache-size 30000
</zodb_db>
<zodb_db shop>
  %import ZEO
  <clientstorage>
    server 10.0.0.5:8100
    server {home}/zeo.socket
    cache-size 128MB
  </clientstorage>
  mount-point /shop:/Plone
  cache-size-bytes 64MB
  pool-size 9
</zodb_db>
<zodb_db try>
  <demostorage>
    <filestorage base>
      path {home}/Try.fs
    </filestorage>
  </demostorage>
  mount-point /try
</zodb_db>
"""


def databases(config):
    from Products.StabilityMonitor.zmi.databaseconf import configured_databases

    return configured_databases(config)


def test_the_databases_of_a_real_zope_conf_are_found(tmp_path):
    pytest.importorskip('ZEO')
    import ZConfig
    from Zope2.Startup.options import ZopeWSGIOptions

    options = ZopeWSGIOptions()
    options.load_schema()
    config, _ = ZConfig.loadConfigFile(options.schema, StringIO(ZOPE_CONF.format(home=tmp_path)))
    main, shop, attempt = databases(config)
    assert main == ConfiguredDatabase(
        'main', ('/',), 'filestorage', cache_objects=30000, cache_bytes=0, connections=7
    )
    assert (shop.mounted, shop.storage) == (('/shop',), 'clientstorage')
    assert shop.servers == ('10.0.0.5:8100', f'{tmp_path}/zeo.socket')
    assert (shop.shared_cache, shop.cache_bytes, shop.connections) == (128 << 20, 64 << 20, 9)
    assert attempt.storage == 'demostorage over filestorage'


def section(kind, **keys):
    return SimpleNamespace(
        config=SimpleNamespace(getSectionType=lambda: kind, getSectionName=lambda: 'main', **keys),
        name='main',
    )


def relstorage(kind, **keys):
    adapter = section(kind, **keys)
    storage = section('relstorage', adapter=adapter, cache_local_mb=10, blob_dir='/blobs')
    database = section(
        'zodb_db',
        storage=storage,
        mount_points=['/'],
        cache_size=5000,
        cache_size_bytes=0,
        pool_size=7,
    )
    (found,) = databases(SimpleNamespace(databases=[database]))
    return found


@pytest.mark.parametrize(
    'dsn, server',
    [
        ("dbname='zodb' user='z' host='db1' password='secret'", 'db1'),
        ('host=db1 port=5433 password=secret', 'db1:5433'),
        ("password='a host=secret' host=db1", 'db1'),
        ("password='it\\'s host=secret' host=db1", 'db1'),
        ("password='a'host=secret", ''),
        ('password=a host=db1 secret', ''),
        ("password=secret host='db1", ''),
        ('postgresql://z:secret@db1:5433/zodb', 'db1:5433'),
        ('postgresql://db1/zodb', 'db1'),
        ('postgresql://z:12/secret@db1/zodb', ''),
        ('postgresql://z:sec@ret@db1/zodb', ''),
        ('postgresql://z:secret#@db1/zodb', ''),
        ('postgresql://db1/zodb?password=secret', 'db1'),
        ('', ''),
        ('dbname=zodb', ''),
    ],
)
def test_only_host_and_port_are_taken_out_of_a_data_source_name(dsn, server):
    found = relstorage('postgresql', driver='psycopg2', dsn=dsn)
    assert found.servers == ((server,) if server else ())
    assert (found.adapter, found.driver, found.shared_cache) == ('postgresql', 'psycopg2', 10 << 20)
    assert 'secret' not in repr(found)


def test_mysql_is_known_by_its_host_or_its_socket():
    keys = {'driver': 'auto', 'user': 'z', 'passwd': 'secret', 'db': 'zodb'}
    assert relstorage('mysql', host='db2', port=3307, **keys).servers == ('db2:3307',)
    assert relstorage('mysql', unix_socket='/run/my.sock', **keys).servers == ('/run/my.sock',)
    assert 'secret' not in repr(relstorage('mysql', host='db2', **keys))


def test_a_database_that_cannot_be_read_does_not_hide_the_others():
    good = section('zodb_db', storage=section('filestorage'), mount_points=[], pool_size=1)
    vars(good.config).update(cache_size=1, cache_size_bytes=0)
    found = databases(SimpleNamespace(databases=[section('zodb_db'), object(), good]))
    assert [database.storage for database in found] == ['', '', 'filestorage']


def test_a_configuration_without_databases_is_no_error():
    assert databases(SimpleNamespace()) == databases(SimpleNamespace(databases=None)) == ()
