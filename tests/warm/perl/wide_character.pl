print "\x{20ac}\n";
print "\xe9" eq "\x{e9}" ? "same\n" : "";
