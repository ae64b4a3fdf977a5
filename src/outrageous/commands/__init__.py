"""What users type. Only these modules know of Hydra."""

import os

# Batches of another shape in each step leave gaps in a GPU's memory, unless its allocator may move where blocks lie. It
# reads this once, so it is said before anybody imports torch, and in the environment, for processes that are started.
if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
