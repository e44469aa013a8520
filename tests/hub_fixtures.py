"""Fixtures of what is loaded from a tiny model's folder."""

import pytest


def loaded(class_name: str, folder: str, **options):
    """A fixture: what the class of that public name loads from the folder that is the fixture `folder`."""

    @pytest.fixture(scope="session")
    def load(request):
        import paddlemix_qwenvl

        return getattr(paddlemix_qwenvl, class_name).from_pretrained(request.getfixturevalue(folder), **options)

    return load
