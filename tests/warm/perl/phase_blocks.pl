print "body ${^GLOBAL_PHASE}\n";
BEGIN { print "begin ", __LINE__, "\n" }
INIT { print "init\n" }
CHECK { print "check\n" }
UNITCHECK { print "unitcheck\n" }
END { print "end one\n" }
END { print "end two ${^GLOBAL_PHASE}\n" }
