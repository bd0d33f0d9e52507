import pytest

from Products.StabilityMonitor.knowledge.pathtemplates import template


@pytest.mark.parametrize(
    ('path', 'expected'),
    [
        ('/orders/4711/pdf', '/orders/*/pdf'),
        ('/orders/20261201-4711.pdf', '/orders/*.pdf'),
        ('/order-4711', '/order-*'),
        ('/file/5fd1a0c29be1', '/file/*'),
        ('/file/f47ac10b-58cc-4372-a567-0e02b2c3d479/view', '/file/*/view'),
        ('/page/@@images/f47ac10b-58cc-4372-a567-0e02b2c3d479-400.jpeg', '/page/@@images/*.jpeg'),
        ('/reset/aZ3kQ9xW0pL7sD2f', '/reset/*'),
        ('/user/jane@example.org/edit', '/user/*/edit'),
        ('/VirtualHostBase/https/example.org:443/Plone/VirtualHostRoot/_vh_a/shop', '/Plone/shop'),
        ('/shop?order=4711', '/shop'),
        ('/', '/'),
        ('//shop//', '/shop'),
        ('', ''),
        ('/' + '/'.join('abcdefghijklmnop'), '/a/b/c/d/e/f/g/h/i/j/k/l/*'),
    ],
)
def test_ids_in_a_path_become_stars(path, expected):
    assert template(path) == expected


@pytest.mark.parametrize(
    'path',
    [
        '/manage_main',
        '/++theme++site/logo',
        '/@@search',
        '/news/a-page-of-a-person',
        '/de/facade',  # only letters, though they are all hex digits
        '/page2',
        '/internationalization',
    ],
)
def test_names_that_people_give_stay(path):
    assert template(path) == path


def test_two_orders_have_one_template():
    assert template('/orders/1/pdf') == template('/orders/998877/pdf')
