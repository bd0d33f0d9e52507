"""Three ways to install and uninstall: a wheel, an editable install, and a folder copied into
`Products`.

Each has its own real Zope in a fresh virtual environment, which links to the installed Zope and its
requirements, but not to this product or other packages.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from support.zopekit import ZopeInstance

pytestmark = [pytest.mark.zope, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
TAB = '/Control_Panel/StabilityMonitor/manage_main'
OURS = 'products.stabilitymonitor'
SHIPPED = (
    'Products',
    'tests',
    'benchmarks',
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'README.txt',
    'CHANGES.txt',
    'LICENSE.txt',
)


class Environment:
    """A virtual environment with only the distributions in `names`, as links."""

    def __init__(self, folder, names):
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.python = folder / 'bin' / 'python'
        self.site_packages = Path(
            sysconfig.get_path('purelib', vars={'base': str(folder), 'platbase': str(folder)})
        )
        for name in names:
            self.link(metadata.distribution(name))

    def link(self, distribution):
        """Link the files of a distribution; folders that several distributions share (zope,
        Products) stay folders.
        """
        for file in distribution.files or ():
            if '..' not in file.parts and '__pycache__' not in file.parts:
                target = self.site_packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(distribution.locate_file(file))

    def pip(self, *arguments):
        command = [
            sys.executable,
            '-m',
            'pip',
            '--disable-pip-version-check',
            '--python',
            str(self.python),
        ]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments, **options):
        return subprocess.run(
            [str(self.python), *arguments], capture_output=True, text=True, timeout=60, **options
        )


def needed(*roots):
    """Return the names of these distributions and of all that they require here, without extras."""
    from packaging.requirements import Requirement

    found, todo = {}, list(roots)
    while todo:
        name = todo.pop()
        key = name.lower().replace('_', '-')
        if key in found:
            continue
        found[key] = name
        requirements = [Requirement(line) for line in metadata.distribution(name).requires or ()]
        todo += [
            item.name
            for item in requirements
            if not item.marker or item.marker.evaluate({'extra': ''})
        ]
    return sorted(found.values())


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of what is shipped, so that building leaves no files in the real checkout."""
    folder = tmp_path_factory.mktemp('checkout') / 'src'
    folder.mkdir()
    ignored = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for name in SHIPPED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    command = [
        sys.executable,
        '-m',
        'pip',
        '--disable-pip-version-check',
        'wheel',
        '--no-deps',
        '--no-build-isolation',
        '--wheel-dir',
        str(folder),
        str(checkout),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(checkout / 'build', ignore_errors=True)
    return next(folder.glob('*.whl'))


def environment(tmp_path, *also):
    # setuptools: for the editable build, and for pkg_resources, which the old namespace packages of
    # Paste may need.
    return Environment(tmp_path / 'venv', needed('Zope', 'setuptools', *also))


def serves(zope, tab):
    """Start Zope, open the tab and the root with a login, and stop it; `tab` is the expected status
    of the tab.
    """
    zope.start()
    assert zope.get(TAB, auth=False).status in (401, 404)
    assert zope.get(TAB).status == tab, zope.last_words()
    assert zope.get('/manage_main').status == 200
    assert zope.get('/Control_Panel/manage_main').status == 200
    assert zope.stop() == 0


def classes_in(data_fs):
    """Return the modules of all classes in the records of the database, and the records."""
    from ZODB.FileStorage import FileStorage
    from ZODB.utils import get_pickle_metadata

    storage = FileStorage(str(data_fs), read_only=True)
    try:
        records = [record.data for transaction in storage.iterator() for record in transaction]
    finally:
        storage.close()
    return [get_pickle_metadata(data)[0] for data in records if data], records


def assert_nothing_is_left(zope):
    modules, records = classes_in(zope.client_home / 'Data.fs')
    assert modules
    assert [name for name in modules if name.startswith('Products.StabilityMonitor')] == []
    assert [data for data in records if data and b'StabilityMonitor' in data] == []


def test_a_wheel_contains_the_product_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    product = {name for name in names if name.startswith('Products/StabilityMonitor/')}
    others = {name for name in names if '.dist-info/' not in name} - product
    assert others == set()
    source = CHECKOUT / 'Products' / 'StabilityMonitor'
    expected = {
        f'Products/StabilityMonitor/{path.relative_to(source)}'
        for path in source.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    assert product == expected


def test_a_wheel_installs_and_uninstalls_cleanly(tmp_path, wheel):
    place = environment(tmp_path, 'psutil', 'packaging')
    place.pip('install', '--no-deps', str(wheel))
    assert (place.folder / 'bin' / 'stabilitymonitor').exists()
    zope = ZopeInstance(tmp_path / 'zope', python=place.python, checkout=False).create()
    try:
        serves(zope, tab=200)
        place.pip('uninstall', '--yes', OURS)
        serves(zope, tab=404)
        assert_nothing_is_left(zope)
    finally:
        zope.destroy()


def test_an_editable_install_is_found_by_zope(tmp_path, checkout):
    place = environment(tmp_path, 'psutil', 'packaging')
    place.pip('install', '--no-deps', '--no-build-isolation', '--editable', str(checkout))
    found = place.run(
        '-c', 'import Products.StabilityMonitor as it; print(it.__file__)', cwd=tmp_path
    )
    assert found.stdout.strip().startswith(str(checkout)), found
    zope = ZopeInstance(tmp_path / 'zope', python=place.python, checkout=False).create()
    try:
        serves(zope, tab=200)
        place.pip('uninstall', '--yes', OURS)
        serves(zope, tab=404)
        assert_nothing_is_left(zope)
    finally:
        zope.destroy()


@pytest.mark.parametrize('way', ['pth', 'pythonpath'])
def test_a_copied_folder_needs_only_zope(tmp_path, checkout, way):
    place = environment(tmp_path)
    for name in ('psutil', 'pystack', 'packaging'):
        assert name in needed('Zope') or place.run('-c', f'import {name}').returncode, (
            f'{name} is installed'
        )
    zope = ZopeInstance(tmp_path / 'zope', python=place.python, checkout=False)
    if way == 'pythonpath':
        zope.env['PYTHONPATH'] = str(zope.home)
    else:
        (place.site_packages / 'instance.pth').write_text(f'{zope.home}{os.linesep}')
    zope.create()
    folder = zope.home / 'Products' / 'StabilityMonitor'
    shutil.copytree(checkout / 'Products' / 'StabilityMonitor', folder)
    try:
        serves(zope, tab=200)
        shutil.rmtree(folder)
        serves(zope, tab=404)
        assert_nothing_is_left(zope)
    finally:
        zope.destroy()


def test_a_site_with_data_survives_the_removal_of_the_product(tmp_path, checkout):
    """The pages of the tab, even with POST, leave no persistent object."""
    place = environment(tmp_path, 'psutil', 'packaging')
    (tmp_path / 'zope' / 'Products').mkdir(parents=True)
    folder = tmp_path / 'zope' / 'Products' / 'StabilityMonitor'
    shutil.copytree(checkout / 'Products' / 'StabilityMonitor', folder)
    zope = ZopeInstance(
        tmp_path / 'zope',
        python=place.python,
        checkout=False,
        env={'PYTHONPATH': str(tmp_path / 'zope')},
    ).create()
    try:
        zope.start()
        zope.post('/manage_addProduct/OFSP/manage_addFolder', {'id': 'site', 'title': 'A site'})
        for page in (
            'manage_incidents',
            'manage_threads',
            'manage_checks',
            'manage_workarounds',
            'manage_report',
        ):
            zope.get(f'/Control_Panel/StabilityMonitor/{page}')
            zope.post(f'/Control_Panel/StabilityMonitor/{page}', {'note': 'x'})
        assert zope.stop() == 0
        shutil.rmtree(folder)
        zope.start()
        assert zope.get('/site/manage_main').status == 200
        assert zope.stop() == 0
        assert_nothing_is_left(zope)
    finally:
        zope.destroy()
