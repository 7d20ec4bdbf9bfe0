system("env | sort | grep -v ^R_SESSION_TMPDIR | grep -v ^_=")
