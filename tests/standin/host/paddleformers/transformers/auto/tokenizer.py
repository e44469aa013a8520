from .made import make_over_transformers

AutoTokenizer = make_over_transformers("AutoTokenizer")
