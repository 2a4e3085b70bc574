"""AudioNet: recordings become pictures, pictures become bottlenecks, bottlenecks become answers."""

__version__ = "0.1.0"
