"""The version of this package, for its wheel, its `--version` and its User-Agent."""

VERSION = "0.1.0"
