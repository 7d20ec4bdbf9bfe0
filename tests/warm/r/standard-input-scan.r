print(sum(scan("stdin", quiet = TRUE)))
