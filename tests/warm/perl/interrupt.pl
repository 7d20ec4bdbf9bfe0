print defined $SIG{INT} ? $SIG{INT} : 'undef', ' ', defined $SIG{PIPE} ? $SIG{PIPE} : 'undef', "\n";
$| = 1;
print "before\n";
kill INT => $$;
sleep 1;
