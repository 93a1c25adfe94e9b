"""Let vLLM take Triton's interpreter for a CPU backend, so that its second model runner runs here.

It is for child processes, which find it on their path.
"""

from types import SimpleNamespace

from triton import backends

driver = SimpleNamespace(is_active=lambda: True)
backends.backends.setdefault("cpu", SimpleNamespace(driver=driver, compiler=None))
