"""Models that others trained, read as data and never as code, made into model files of ours."""
