"""What a person or a schedule starts. Prefect lives here, DVC and git in `flows.dvc` alone, torch nowhere."""
