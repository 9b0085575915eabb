"""What git and DVC record about models and pictures made in the past."""
