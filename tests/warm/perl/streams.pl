print join(' ', fileno(STDIN), fileno(STDOUT), fileno(STDERR), $|, -t STDIN ? 1 : 0, -p STDOUT ? 1 : 0), "\n";
print join(' ', PerlIO::get_layers(STDIN)), ' ', join(' ', PerlIO::get_layers(STDOUT)), "\n";
