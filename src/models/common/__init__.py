"""What more than one paper uses."""
