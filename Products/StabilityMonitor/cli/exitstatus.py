"""The exit statuses of the command, for monitoring and scripts."""

#: All is well.
WELL = 0
#: Something is wrong with the site.
WRONG = 1
#: Wrong usage, or there is nothing to read.
UNUSABLE = 2
#: A person pressed Ctrl+C: as shells say it, 128 and the number of SIGINT.
INTERRUPTED = 130
