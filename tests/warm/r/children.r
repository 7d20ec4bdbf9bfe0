print(system("ps -o comm= --ppid $PPID | sort", intern = TRUE))
print(length(list.files("/proc/self/task")))
print(list.files("/tmp", "^.warm", all.files = TRUE))
