(format t "not closed"
