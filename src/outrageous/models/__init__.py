"""The paper's models (sections 3-5 of the paper; appendix C), their losses, and how the paper counts their cost."""
