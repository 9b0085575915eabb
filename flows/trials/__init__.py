"""Parts of an exploration: the settings to try, one trial, the record and the sheet."""
