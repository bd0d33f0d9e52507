"""The next process: it finds dead runs, collects evidence, judges and archives.

Never imports `recording`: the reader may be a newer release than the writer.
"""
