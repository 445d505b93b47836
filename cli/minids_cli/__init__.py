"""The command `minids`: parse, validate, call one library function, show. The only place that prints."""
