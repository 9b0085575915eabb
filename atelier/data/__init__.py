"""What is known about works and where their pictures are stored: catalog, shards, the packed training set."""
