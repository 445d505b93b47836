"""The command `minids`: parse, validate, call the library, show. The only place that prints."""
