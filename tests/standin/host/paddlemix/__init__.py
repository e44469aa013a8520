"""A stand-in for PaddleMIX: the registry has the shape of the real one's (`tests/test_registry.py` compares), the models none."""
