"""A real browser: Chromium without a window, which keeps its downloads in `tmp_path`."""
import os
import shutil

import pytest


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--window-size=1280,1000'):
        options.add_argument(argument)
    options.binary_location = shutil.which('chromium')
    environment = {**os.environ, 'HOME': str(tmp_path_factory.mktemp('chromium'))}
    driver = webdriver.Chrome(options, Service(shutil.which('chromedriver'), env=environment))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, tmp_path):
    """The browser with a blank page; what it downloads lands in `browser.downloads`."""
    chromium.downloads = tmp_path / 'downloads'
    chromium.downloads.mkdir()
    chromium.execute_cdp_cmd('Browser.setDownloadBehavior',
                             {'behavior': 'allow', 'downloadPath': str(chromium.downloads)})
    chromium.get('about:blank')
    return chromium
