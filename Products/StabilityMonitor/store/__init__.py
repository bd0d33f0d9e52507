"""The files on disk: run directories, black boxes, the mailbox of a run, the archive."""
