print join(' ', sort keys %INC), "\n";
print join(' ', map { s/[^\w:]/sprintf '<%02x>', ord $&/ger } sort keys %main::), "\n";
