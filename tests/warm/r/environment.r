e <- Sys.getenv()
e <- e[!names(e) %in% c("R_SESSION_TMPDIR")]
print(names(e))
print(unclass(e))
