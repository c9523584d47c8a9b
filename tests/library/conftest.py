"""Fixtures that several files of this wing share."""

import socket

import pytest


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No name is resolved and no connection made; an empty cache."""

    def refuse(*args, **kwargs):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
