"""Picture files and contact sheets: reading, writing, comparing, and the types of pixel arrays."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, or (N, H, W, 3)
Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W, 3) RGB of 8 or 16 bits
