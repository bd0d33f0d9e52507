from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.signature import Signature

CRASH = Signature('crashed', 'SIGSEGV', 'null-pointer', ('a!f', 'a!g'), ('p:r', 'p:s'), suspect='a')


def test_the_text_has_every_part_that_must_be_the_same():
    assert CRASH.strict == 'crashed|SIGSEGV|null-pointer|a!f < a!g|p:r < p:s'
    assert Signature('hung', place='hang workers p:r').strict == 'hung|||||hang workers p:r'


def test_a_weak_one_is_marked():
    weak = Signature('crashed', 'SIGSEGV', 'unknown', (), ('p:r',), is_weak=True)
    assert weak.id.startswith('~') and len(weak.id) == 11
    assert len(CRASH.id) == 10
    assert weak.label == f'SIGSEGV p:r {weak.id}'


def test_the_family_is_the_suspect_with_the_class():
    assert CRASH.family == 'a|null-pointer'
    assert Signature('crashed', death='null-pointer').family == ''


def test_it_can_be_kept():
    assert from_json(Signature, to_json(CRASH)) == CRASH
