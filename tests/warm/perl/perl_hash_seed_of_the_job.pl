print join(' ', keys %{ { map { $_ => 1 } 1 .. 20 } }), "\n";
