"""One module per stage of dvc.yaml; `python -m tasks.<stage>` is what DVC runs. Knows neither Prefect nor DVC."""
