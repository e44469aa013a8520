"""A stand-in for PaddleFormers: the Auto classes have the shape of the real ones' (`tests/hosts/test_hosts_paddleformers.py`), and
its models are two words."""

__version__ = "1.2.0"
