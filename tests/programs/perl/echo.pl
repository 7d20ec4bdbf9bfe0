binmode $_ for *STDIN, *STDOUT;
print while <STDIN>;
