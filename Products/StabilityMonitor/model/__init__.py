"""What every room speaks of: values, options, errors, interfaces.  No I/O."""
