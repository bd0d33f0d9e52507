"""Options: texts in zope.conf and the environment, values in force, and problems."""

import pytest

from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.model.options import OPTIONS
from Products.StabilityMonitor.model.options import load

DEFAULTS = {
    'enabled': True,
    'directory': '',
    'slow_request': 10.0,
    'stall': 30.0,
    'sample_interval': 1.0,
    'keep_runs': 200,
    'keep_days': 90,
    'keep_bytes': 200 << 20,
    'group': '',
    'thread_stack_size': 0,
    'core_files': False,
    'capture_log': 30,
    'record_query': False,
    'record_user': False,
    'drills': False,
    'tracker_url': '',
    'support_name': '',
    'support_contact': '',
}


def test_the_defaults_have_the_promised_values():
    values, problems = load({}, {})
    assert problems == []
    assert {key: vars(values)[key] for key in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
class TestEachOption:
    def test_its_default_is_valid_and_explained(self, option):
        text = 'x' if option.convert is str else option.default
        values, problems = load({option.name: text}, {})
        assert problems == [] and option.why
        if option.default:
            value = vars(values)[option.key]
            assert value == option.convert(option.default)
            assert isinstance(value, str) or value >= option.least

    def test_zope_conf_accepts_hyphens_or_underscores(self, option):
        for name in (option.name, option.key):
            values, problems = load({name: good(option)}, {})
            assert problems == []
            assert vars(values)[option.key] == option.convert(good(option))

    def test_the_environment_variable_wins(self, option):
        variable = 'STABILITYMONITOR_' + option.name.upper().replace('-', '_')
        values, problems = load({option.name: option.default or 'lost'}, {variable: good(option)})
        assert problems == []
        assert vars(values)[option.key] == option.convert(good(option))


@pytest.mark.parametrize(
    'option',
    [o for o in OPTIONS if o.convert not in (str, options.pattern)],
    ids=lambda option: option.name,
)
class TestEachOptionThatIsNotJustText:
    def test_nonsense_is_a_problem_and_the_default_is_used(self, option):
        for text in (
            '',
            ' ',
            'nonsense',
            '-1',
            '1e999',
            'nan',
            'inf',
            '1 s x',
            '\x00',
            '99999999999999999999d',
        ):
            values, (problem,) = load({option.name: text}, {})
            assert vars(values)[option.key] == option.convert(option.default)
            sentence = problem.sentence
            assert option.name == problem.name and option.name in sentence
            assert repr(text) in sentence and repr(option.default) in sentence
            assert option.convert.__doc__ in sentence

    def test_the_problem_names_a_wrong_variable(self, option):
        _, (problem,) = load({}, {option.variable: 'nonsense'})
        assert problem.sentence.startswith(f'The variable {option.variable} is')


def test_a_pattern_that_is_no_regular_expression_is_a_problem():
    values, (problem,) = load({'redact-pattern': 'K-['}, {})
    assert values.redact_pattern == '' and 'must be a regular expression' in problem.sentence


@pytest.mark.parametrize('option', [o for o in OPTIONS if o.least], ids=lambda option: option.name)
def test_a_value_below_the_least_is_a_problem(option):
    values, (problem,) = load({option.name: '0'}, {})
    assert f'at least {option.least:g};' in problem.sentence
    assert vars(values)[option.key] == option.convert(option.default)


def good(option):
    return {
        options.switch: 'yes',
        options.count: '17',
        options.seconds: '2m',
        options.bytecount: '3GB',
        options.secret_classes: 'all -users',
        options.pattern: r'K-[0-9]+',
        options.level: 'ERROR',
        str: 'some text',
    }[option.convert]


def test_an_unknown_option_or_variable_is_reported_and_ignored():
    values, problems = load(
        {'enable': 'off', 'stall': '5s'},
        {'STABILITYMONITOR_STAL': '1', 'STABILITYMONITOR_': '2', 'HOME': '/', 'ENABLED': 'off'},
    )
    assert values.enabled and values.stall == 5.0
    assert sorted(problem.sentence for problem in problems) == [
        "There is no option 'enable'; it was ignored. Do you mean enabled?",
        'There is no variable STABILITYMONITOR_; it was ignored.',
        'There is no variable STABILITYMONITOR_STAL; it was ignored. '
        'Do you mean STABILITYMONITOR_STALL?',
    ]
    assert {problem.name for problem in problems} >= {'enable', 'STABILITYMONITOR_STAL'}


def test_one_wrong_option_does_not_change_the_others():
    values, problems = load({'stall': 'x', 'slow-request': '5s', 'drills': 'maybe'}, {})
    assert (values.stall, values.slow_request, values.drills, len(problems)) == (
        30.0,
        5.0,
        False,
        2,
    )


@pytest.mark.parametrize(
    'text, value',
    [
        ('500ms', 0.5),
        ('30s', 30),
        ('30', 30),
        ('5m', 300),
        ('1h', 3600),
        ('2d', 172800),
        (' 1.5 H ', 5400),
        ('0', 0),
    ],
)
def test_durations_are_read_in_seconds(text, value):
    assert options.seconds(text) == value


@pytest.mark.parametrize(
    'text, value',
    [
        ('512KB', 524288),
        ('200mb', 200 << 20),
        ('1.5GB', 3 << 29),
        ('77', 77),
        ('77b', 77),
        ('0', 0),
    ],
)
def test_sizes_are_read_in_bytes(text, value):
    assert options.bytecount(text) == value


@pytest.mark.parametrize(
    'text, value',
    [('On', True), ('OFF', False), ('1', True), ('0', False), ('true', True), ('no', False)],
)
def test_switches_are_on_or_off(text, value):
    assert options.switch(text) is value


def test_names_of_options_are_unique():
    assert (
        len({option.name for option in OPTIONS})
        == len({option.key for option in OPTIONS})
        == len(OPTIONS)
    )
