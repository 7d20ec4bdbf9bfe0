print join('|', map { defined $_ ? $_ : 'undef' } $!, $!+0, $@, $?, $^W, $^F, $^H, $^P, $^D, $^S, $^C, $^A, $,, $\, $/, $|, $1, $&, $^L, ${^TAINT}, ${^UNICODE}, ${^OPEN}, ${^GLOBAL_PHASE}, ${^UTF8LOCALE}), "\n";
print abs($^T - time) < 3 ? "now\n" : "then\n";
BEGIN { print join('|', map { defined $_ ? $_ : 'undef' } $^H, ${^WARNING_BITS}, scalar(%^H), ${^GLOBAL_PHASE}), "\n" }
