"""Follow the action of a finding word for word, as an administrator without other knowledge
does.
"""

import configparser
import re


def follow_in_ini(file, action):
    """Change an ini file: add to values and append lines, as `action` says."""
    config = configparser.RawConfigParser()
    config.read(file)
    addition = re.search(r'add "([^"]+)"', action)[1]
    for key, section in re.findall(r'to "(\w+)" of \[(\w+)\]', action):
        config[section][key] += addition
    lines = re.findall(r'"([^"]+)"', action.partition('write the lines ')[2])
    with file.open('w') as ini:
        config.write(ini)
        ini.write('\n'.join(lines) + '\n')
