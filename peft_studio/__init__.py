"""PEFT Studio: explore parameter-efficient fine-tuning in the browser.

The arrows of the package are ``app -> ui -> jobs -> config -> methods`` and
``worker -> training -> config -> methods``; ``tests/test_architecture.py`` enforces them.
"""

__version__ = "0.1.0"
