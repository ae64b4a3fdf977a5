"""Outrageously Large Neural Networks (Shazeer et al., 2017), reproduced: the sparsely-gated mixture-of-experts layer and the paper's models."""
