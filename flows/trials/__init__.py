"""The parts of an exploration: settings to try, one trial, Optuna's search, the record on disk, the sheet."""
