"""Outrageously Large Neural Networks (Shazeer et al., 2017), reproduced.

The sparsely-gated mixture-of-experts layer, the paper's models, and its tables.
"""
