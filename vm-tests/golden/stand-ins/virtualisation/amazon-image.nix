# Where NIXPKGS is too small to have the real one: nothing of it is in the golden files.
{ }
