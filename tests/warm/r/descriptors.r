links <- Sys.readlink(file.path("/proc/self/fd", 0:9))
print(gsub("[0-9]+", "N", links[-4]))
print(system("ls /proc/self/fd | wc -l", intern = TRUE))
