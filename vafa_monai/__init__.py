"""Attack, harden and audit 3D segmentation models inside MONAI."""

__version__ = "0.1.0"
