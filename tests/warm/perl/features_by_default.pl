eval 'say "never"; 1' or print "no say: ", $@ ? "error\n" : "none\n";
print eval 'my $s = sub ($x) { 1 }; 1' ? "signatures\n" : "prototypes\n";
print bless([]) =~ /^main=/ ? "ok\n" : "no\n";
