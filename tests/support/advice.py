"""Follows what a finding advises, as it stands: what an administrator does who knows nothing
else.
"""

import configparser
import re


def follow_in_ini(file, action):
    """Lines that are to be added to, and lines that are to be written, into an ini file."""
    config = configparser.RawConfigParser()
    config.read(file)
    addition = re.search(r'add "([^"]+)"', action)[1]
    for key, section in re.findall(r'to "(\w+)" of \[(\w+)\]', action):
        config[section][key] += addition
    lines = re.findall(r'"([^"]+)"', action.partition('write the lines ')[2])
    with file.open('w') as ini:
        config.write(ini)
        ini.write('\n'.join(lines) + '\n')
