print(Sys.getenv("ONE"))
