"""Data on disk: the catalog and the download records, SQLite files, tar shards, and the packed training set."""
