"""Fails unless the server answers. The image may have no curl."""

from urllib.request import urlopen

urlopen("http://127.0.0.1:8080/healthz", timeout=4).close()
