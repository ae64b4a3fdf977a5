"""Training and evaluation of the models with PyTorch Lightning."""
