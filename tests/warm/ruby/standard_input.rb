p gets, $., $stdin.read(3), STDIN.readline, ARGF.read, gets
