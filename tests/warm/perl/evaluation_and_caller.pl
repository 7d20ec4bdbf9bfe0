print join(' ', map { defined $_ ? $_ : 'undef' } eval { (caller 0)[0 .. 4] }), "\n";
eval "die 'in text'";
print $@;
print eval("__FILE__ . __LINE__"), "\n";
