"""The packaging of the product: what is installed, and what it requires."""

import re
from pathlib import Path

from setuptools import find_namespace_packages
from setuptools import setup

HERE = Path(__file__).resolve().parent


def read(name):
    path = HERE / name
    return path.read_text('utf-8') if path.exists() else ''


def version():
    """Return the version in the package; a copied folder has no other place for it."""
    match = re.search(
        r"^__version__ = '([^']+)'", read('Products/StabilityMonitor/__init__.py'), re.M
    )
    return match.group(1) if match else '1.0.dev0'


def long_description():
    """README and CHANGES as the package index shows them.

    It has only this text.  So pictures are left out, and links to other files become their names.
    """
    text = read('README.txt') + '\n\n' + read('CHANGES.txt')
    text = re.sub(r'\.\. image:: docs/.*\n(?: +:.*\n)*\n', '', text)
    return re.sub(r'`([^`<]+) <(?!https?:)[^>]*>`_', r'``\1``', text)


setup(
    name='Products.StabilityMonitor',
    version=version(),
    description='Reports how and why the last Zope process ended: crash, hang, kill or restart',
    long_description=long_description(),
    long_description_content_type='text/x-rst',
    license='ZPL-2.1',
    keywords='zope crash stability monitoring faulthandler post-mortem',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Web Environment',
        'Framework :: Zope',
        'Framework :: Zope :: 5',
        'Intended Audience :: System Administrators',
        'Operating System :: POSIX',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Programming Language :: Python :: 3.15',
        'Topic :: System :: Monitoring',
    ],
    # Exactly these two patterns: otherwise tests/ and benchmarks/ would be installed into
    # site-packages.
    packages=find_namespace_packages(include=['Products', 'Products.*']),
    package_data={
        '': ['*.zcml', '*.toml', '*.schema.json', 'py.typed'],
        'Products.StabilityMonitor': ['www/*', 'www/**/*', 'profiles/**/*'],
    },
    zip_safe=False,
    python_requires='>=3.11',
    install_requires=[
        'Zope >= 5.14',
        'packaging',
        'psutil',
        'zope.component',
        'zope.interface',
    ],
    extras_require={
        'completion': ['shtab'],
        'native': ['pystack>=1.7.2; sys_platform == "linux"'],
        'test': [
            'build',
            'cmarkgfm',
            'docutils',
            'gunicorn',
            'hypothesis',
            'jsonschema',
            'py-spy; sys_platform == "linux"',
            'pytest',
            'pytest-cov',
            'pytest-xdist',
            'selenium',
            'selenium-axe-python',
            'setuptools',
            'supervisor',
            'twine',
            'zdaemon',
            'ZEO',
            'zope.testing',
        ],
        'bench': ['haufe.requestmonitoring', 'sentry-sdk', 'six'],
    },
    entry_points={'console_scripts': ['stabilitymonitor = Products.StabilityMonitor.cli:main']},
    # Zope finds products in the folders on sys.path, so a plain `pip install -e .` must add the
    # checkout there.  The default of setuptools, an import hook, is not always found.
    options={'editable_wheel': {'mode': 'compat'}},
)
