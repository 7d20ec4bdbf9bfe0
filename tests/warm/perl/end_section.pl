while (<DATA>) { print "$. $_" }
print eof(DATA) ? "end\n" : "more\n";
__END__
text
after
