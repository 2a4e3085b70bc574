"""AudioNet: recordings become images, images become bottlenecks, bottlenecks become answers."""

__version__ = "0.1.0"
