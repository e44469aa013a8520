from .made import make_over_transformers

AutoImageProcessor = make_over_transformers("AutoImageProcessor")
