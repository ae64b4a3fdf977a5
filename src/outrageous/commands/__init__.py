"""What users type. Only these modules know of Hydra."""
