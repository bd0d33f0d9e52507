"""The format of a line of a trace log, and how another program reads it."""

import re
import time

ID, TIME, WORD = r'\d+@0x[0-9a-f]{16}', r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', r'\S+'
#: The grammar of docs/trace-log.txt.
GRAMMAR = re.compile(
    '|'.join(
        (
            rf'B {ID} {TIME} {WORD} {WORD}',
            rf'A {ID} {TIME} \d+ -',
            rf'E {ID} {TIME} seconds=(\d+\.\d{{6}}|\?)( [a-z]+={WORD})*',
            rf'[UN] - {TIME}( {WORD})+',
        )
    )
)


def profile(lines):
    """Return what requestprofiler.py reads in a log: (requests, number of complaints).

    A request is a dict with url, method, start, end and perhaps code.  Like that program, it splits
    a line into at most four words, takes the time from fixed columns, needs exactly two words after
    B and after A, skips lines that belong to no request, and takes E as the end, whatever follows.
    """
    requests, unfinished, complaints = [], {}, 0
    for line in lines:
        code, id, when, *rest = line.strip().split(None, 3)
        moment = time.mktime(
            (
                int(when[:4]),
                int(when[5:7]),
                int(when[8:10]),
                int(when[11:13]),
                int(when[14:16]),
                int(when[17:19]),
                0,
                0,
                -1,
            )
        )
        if code == 'U':
            unfinished.clear()
        elif code == 'B':
            method, url = rest[0].split()
            unfinished[id] = {'url': url, 'method': method, 'start': moment, 'end': None}
            requests.append(unfinished[id])
        elif id not in unfinished:
            continue
        elif code == 'A':
            unfinished[id]['code'], _ = rest[0].split()
        elif code == 'E':
            unfinished.pop(id)['end'] = moment
        else:
            complaints += code != 'I'
    return requests, complaints
