"""What all rooms share: values, options, errors, interfaces.  No I/O."""
