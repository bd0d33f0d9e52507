"""What a page is for people who see little, use a narrow window, or have no mouse.

All functions look at the page that a Selenium browser shows.
"""

import json

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium_axe_python import Axe

#: The element around all that our templates write; Zope's frame is around it.
OURS = 'main.stability'
#: The rest of axe-core's answer is large, and it would be sent to this process.
_AXE = json.dumps({'resultTypes': ['violations', 'incomplete']})
_INSIDE = f"""
const found = document.querySelector(arguments[0]);
return found !== null && found.closest('{OURS}') !== null;
"""
_OPEN = f"""
document.querySelectorAll('{OURS} details').forEach(each => {{ each.open = true; }});
"""
_CUT = f"""
const cut = [], edge = document.documentElement.clientWidth + 1;
document.querySelectorAll('{OURS} *').forEach(each => {{
    const style = getComputedStyle(each);
    const beyond = !each.closest('svg') && each.getBoundingClientRect().right > edge;
    const inside = style.overflowX !== 'visible' && each.scrollWidth > each.clientWidth + 1;
    if (beyond || (inside && !each.classList.contains('sr-only'))) {{
        cut.push(each.outerHTML.slice(0, 200));
    }}
}});
return cut;
"""
#: Numbers what a person can operate, in the order of the page.
_CONTROLS = f"""
const selector =
    'a[href]:not([tabindex="-1"]), button, input, select, textarea, summary, [tabindex="0"]';
window.controls = [...document.querySelectorAll('{OURS} ' + selector.replaceAll(', ', ', {OURS} '))]
    .filter(each => !each.disabled && each.checkVisibility());
return window.controls.map(each => each.outerHTML.slice(0, 200));
"""
#: The number of the control with the focus, and whether a person sees that it has it.
_FOCUSED = """
const focus = document.activeElement;
function isMarked(element, pseudo) {
    const style = getComputedStyle(element, pseudo);
    return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
}
const label = focus.labels && focus.labels[0];
return [window.controls.indexOf(focus), isMarked(focus) || !!label && isMarked(label, '::before')];
"""


def unfold(browser: WebDriver) -> None:
    browser.execute_script(_OPEN)


def faults(browser: WebDriver) -> list[tuple[str, bool, str]]:
    """Return (rule, whether it is inside OURS, HTML) of each element that axe-core objects to."""
    axe = Axe(browser)
    axe.inject()
    results = axe.run(options=_AXE)
    objections = [(rule['id'], node) for rule in results['violations'] for node in rule['nodes']]
    for rule in results['incomplete']:  # axe-core is not sure whether white on white is meant
        objections += [(rule['id'], node) for node in rule['nodes'] if _is_invisible(node)]
    found = []
    for rule, node in objections:
        inside = browser.execute_script(_INSIDE, node['target'][-1])
        found.append((rule, inside, node['html'][:200]))
    return found


def _is_invisible(node: dict) -> bool:
    """Whether text has the colour of its background."""
    return any((check['data'] or {}).get('messageKey') == 'equalRatio' for check in node['any'])


def cut(browser: WebDriver) -> list[str]:
    """Return the HTML of our elements that reach beyond the window, or beyond their own box."""
    return browser.execute_script(_CUT)


def press(browser: WebDriver, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def controls_by_keyboard(browser: WebDriver) -> tuple[list[str], list[str], list[str]]:
    """Press the tab key until it has left the page.

    Returns the HTML of our controls in the order of the page, of those that got the focus in the
    order in which they got it, and of those that did not look as if they had it.
    """
    controls = browser.execute_script(_CONTROLS)
    reached, unmarked = [], []
    for _ in range(len(controls) + 40):  # Zope's frame has some more
        press(browser, Keys.TAB)
        number, is_marked = browser.execute_script(_FOCUSED)
        if number >= 0:
            reached.append(controls[number])
            if not is_marked:
                unmarked.append(controls[number])
        elif reached:
            break
    return controls, reached, unmarked
