from .appflow import Appflow

__all__ = ["Appflow"]
